//! A worker's own stacks.

use super::depot::{Depot, Slot};
use super::{Slabs, Stack, StackClass, StackError};
use crate::loom::sync::Arc;
use crate::loom::sync::atomic::{AtomicUsize, Ordering};

/// At most this many stacks are fetched at a time. The first fetch takes one, each next one twice as many.
const MAX_FETCH: usize = 32;

/// A pool looks for stacks it does not need each time this many have come back. That is several times what
/// it keeps: a shorter epoch could lie within one wave of fibers that all end before the next wave is
/// spawned, and would take all their stacks for superfluous.
const EPOCH: u32 = 4096;

/// How many stacks of one class a pool keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watermarks {
    /// Never fewer than this are left after stacks went unused. So many go home at a time: few enough to
    /// keep a worker for less than 0.1 ms, enough to share a lock and, side by side, a system call.
    pub(super) low: usize,
    /// With more than this, some go home at once.
    pub(super) high: usize,
}

impl Watermarks {
    /// 64 and 1,024 up to the default size; above, no more than 512 MiB of address space.
    pub(super) const fn of(class: StackClass) -> Self {
        let fit = (512 << 20) / class.size();
        let high = if fit < 1024 { fit } else { 1024 };
        Self { low: high / 16, high }
    }
}

/// Warm stacks for one worker, last in first out, as their last users left them.
///
/// Stacks of another worker may be given to it, and stacks of another runtime, which it sends home.
/// Dropped, it sends everything home.
#[derive(Debug)]
pub(crate) struct Pool {
    slabs: Arc<Slabs>,
    shelves: [Shelf; StackClass::COUNT],
    /// How many stacks are on the shelves, for [`Slabs::stats`]; written by this pool only.
    gauge: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Shelf {
    stacks: Vec<Stack>,
    /// The fewest stacks there have been in this epoch: so many were not needed.
    idle: usize,
    /// So many at the front have not been used, nor asked for from the cache, for long.
    cold: usize,
    /// Stacks that may still come back in this epoch.
    left: u32,
    fetch: usize,
}

impl Shelf {
    fn new() -> Self {
        Self {
            stacks: Vec::new(),
            idle: 0,
            cold: 0,
            left: EPOCH,
            fetch: 1,
        }
    }
}

impl Pool {
    /// An empty pool.
    pub(crate) fn new(slabs: &Arc<Slabs>) -> Self {
        let gauge = Arc::new(AtomicUsize::new(0));
        slabs.depot().add_gauge(&gauge);
        Self {
            slabs: slabs.clone(),
            shelves: std::array::from_fn(|_| Shelf::new()),
            gauge,
        }
    }

    /// A stack of `class`: the one that came back last, or a fresh one.
    ///
    /// # Errors
    /// Whatever the kernel had against it; the pool is as before.
    #[inline]
    pub(crate) fn take(&mut self, class: StackClass) -> Result<Stack, StackError> {
        let shelf = &mut self.shelves[class.index()];
        let Some(stack) = shelf.stacks.pop() else {
            return self.fetch(class);
        };
        shelf.idle = shelf.idle.min(shelf.stacks.len());
        if shelf.stacks.len() < shelf.cold {
            shelf.cold = shelf.stacks.len();
            if let Some(next) = shelf.stacks.last() {
                next.prefetch();
            }
        }
        self.count(-1);
        Ok(stack)
    }

    /// Takes back a stack that nothing runs on any more.
    #[inline]
    pub(crate) fn give(&mut self, stack: Stack) {
        if !Arc::ptr_eq(&stack.depot, self.slabs.depot()) {
            return Self::send_home(stack);
        }
        let class = stack.class();
        let shelf = &mut self.shelves[class.index()];
        shelf.stacks.push(stack);
        shelf.left -= 1;
        let due = shelf.left == 0 || shelf.stacks.len() > Watermarks::of(class).high;
        self.count(1);
        if due {
            self.shrink(class);
        }
    }

    /// Ends the epoch: of every class, sends home some of the stacks that were not used in it, down to the low
    /// watermark. True if more than that are left, so that calling it again may be worth while.
    ///
    /// `give` does so by itself from time to time. This is for a worker that has little to do: once a second,
    /// or in a loop before a sleep without end.
    pub(crate) fn decay(&mut self) -> bool {
        for class in StackClass::all() {
            self.shrink(class);
        }
        let mut shelves = StackClass::all().zip(&self.shelves);
        shelves.any(|(class, shelf)| shelf.stacks.len() > Watermarks::of(class).low)
    }

    /// How many stacks it keeps.
    #[cfg(test)]
    pub(crate) fn cached(&self) -> usize {
        self.gauge.load(Ordering::Relaxed)
    }

    #[inline]
    fn count(&self, change: isize) {
        // Two plain moves: nobody else writes it.
        let cached = self.gauge.load(Ordering::Relaxed).wrapping_add_signed(change);
        self.gauge.store(cached, Ordering::Relaxed);
    }

    #[cold]
    fn send_home(stack: Stack) {
        drop(stack);
    }

    #[cold]
    fn fetch(&mut self, class: StackClass) -> Result<Stack, StackError> {
        let shelf = &mut self.shelves[class.index()];
        Depot::take(self.slabs.depot(), class, shelf.fetch, &mut shelf.stacks)?;
        shelf.fetch = (shelf.fetch * 2).min(MAX_FETCH);
        let stack = shelf
            .stacks
            .pop()
            .expect("the depot gives at least one stack, or an error");
        shelf.idle = 0;
        let fetched = shelf.stacks.len();
        shelf.cold = fetched;
        self.count(fetched as isize);
        Ok(stack)
    }

    /// Ends a class's epoch.
    #[cold]
    fn shrink(&mut self, class: StackClass) {
        let Watermarks { low, high } = Watermarks::of(class);
        let shelf = &mut self.shelves[class.index()];
        let len = shelf.stacks.len();
        let surplus = if len > high {
            low
        } else {
            shelf.idle.div_ceil(2).min(len.saturating_sub(low)).min(low)
        };
        if surplus > 0 {
            // The coldest ones are at the front.
            let slots = shelf.stacks.drain(..surplus).map(Stack::into_slot).collect();
            // With their memory: a burst that ends may be followed by another one.
            self.slabs.depot().keep(slots);
            shelf.fetch = 1;
        }
        shelf.idle = shelf.stacks.len();
        shelf.cold = shelf.stacks.len();
        shelf.left = EPOCH;
        self.count(-(surplus as isize));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for shelf in &mut self.shelves {
            let mut slots: Vec<Slot> = shelf.stacks.drain(..).map(Stack::into_slot).collect();
            self.slabs.depot().put(&mut slots);
        }
        self.slabs.depot().remove_gauge(&self.gauge);
    }
}
