//! The heap, and where in it each slot's node is.

/// A timer in the heap: deadline, order of insertion and slot, compared in this order as one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node(u128);

impl Node {
    pub(super) fn new(deadline: u64, order: u32, slot: u32) -> Self {
        Self(u128::from(deadline) << 64 | u128::from(order) << 32 | u128::from(slot))
    }

    pub(super) fn deadline(self) -> u64 {
        (self.0 >> 64) as u64
    }

    pub(super) fn slot(self) -> u32 {
        self.0 as u32
    }
}

/// Each node has this many children: half the depth of a binary heap, and they fill one cache line.
const ARITY: usize = 4;

/// In place of a link, at the end of a list of free slots.
const NONE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct Heap {
    nodes: Vec<Node>,
    /// For each slot, the index of its node; for a free one, the next free one.
    positions: Vec<u32>,
}

impl Heap {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn first(&self) -> Option<Node> {
        self.nodes.first().copied()
    }

    /// Makes room for one more slot.
    pub(super) fn add_slot(&mut self) -> u32 {
        let slot = self.positions.len();
        assert!(
            slot < NONE as usize,
            "roving: more than four billion timers at once"
        );
        self.positions.push(NONE);
        slot as u32
    }

    pub(super) fn next_free(&self, slot: u32) -> Option<u32> {
        Some(self.positions[slot as usize]).filter(|&next| next != NONE)
    }

    pub(super) fn set_free(&mut self, slot: u32, next: Option<u32>) {
        self.positions[slot as usize] = next.unwrap_or(NONE);
    }

    pub(super) fn push(&mut self, node: Node) {
        self.nodes.push(node);
        self.sift_up(self.nodes.len() - 1, node);
    }

    /// Takes a slot's node out.
    pub(super) fn remove_slot(&mut self, slot: u32) {
        let hole = self.positions[slot as usize] as usize;
        let last = self.nodes.pop().expect("the slot has a node");
        if hole < self.nodes.len() {
            self.fill(hole, last);
        }
    }

    /// Puts `node`, which came from the bottom, where a hole is.
    fn fill(&mut self, mut hole: usize, node: Node) {
        // It most likely belongs near the bottom again: going there first saves a comparison a level.
        while let Some((child, least)) = self.least_child(hole) {
            self.place(hole, least);
            hole = child;
        }
        self.sift_up(hole, node);
    }

    /// The child that comes first, and where it is.
    #[inline]
    fn least_child(&self, parent: usize) -> Option<(usize, Node)> {
        let first = parent * ARITY + 1;
        let children = self.nodes.get(first..)?;
        // Without branches in the usual case: which one it is cannot be predicted.
        let nth = match *children {
            [a, b, c, d, ..] => {
                let (low, low_node) = if b < a { (1, b) } else { (0, a) };
                let (high, high_node) = if d < c { (3, d) } else { (2, c) };
                if high_node < low_node { high } else { low }
            }
            _ => (0..children.len()).min_by_key(|&nth| children[nth])?,
        };
        Some((first + nth, children[nth]))
    }

    fn sift_up(&mut self, mut hole: usize, node: Node) {
        while hole > 0 {
            let parent = (hole - 1) / ARITY;
            let above = self.nodes[parent];
            if above <= node {
                break;
            }
            self.place(hole, above);
            hole = parent;
        }
        self.place(hole, node);
    }

    fn place(&mut self, index: usize, node: Node) {
        self.nodes[index] = node;
        self.positions[node.slot() as usize] = index as u32;
    }

    /// Numbers the nodes anew, in the same order; returns the next number.
    pub(super) fn renumber(&mut self) -> u32 {
        self.nodes.sort_unstable();
        // What is sorted is a heap.
        for index in 0..self.nodes.len() {
            let node = self.nodes[index];
            self.place(index, Node::new(node.deadline(), index as u32, node.slot()));
        }
        self.nodes.len() as u32
    }

    /// Forgets the slots from `slots` on, which are free, and gives back memory for more than `keep`. Links the
    /// free ones that remain, the lowest first.
    pub(super) fn shrink(&mut self, slots: usize, keep: usize, free: impl Fn(usize) -> bool) -> Option<u32> {
        self.positions.truncate(slots);
        self.positions.shrink_to(keep);
        self.nodes.shrink_to(keep);
        let mut first = None;
        for slot in (0..slots).rev().filter(|&slot| free(slot)) {
            self.set_free(slot as u32, first);
            first = Some(slot as u32);
        }
        first
    }

    /// Panics unless every node is in its place.
    #[cfg(test)]
    pub(super) fn check(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            assert_eq!(self.positions[node.slot() as usize] as usize, index);
            assert!(index == 0 || self.nodes[(index - 1) / ARITY] < *node);
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.nodes.capacity().max(self.positions.capacity())
    }
}
