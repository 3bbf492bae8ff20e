//! A queue of deadlines: what is due next, and what has been called off.
//!
//! A 4-ary heap (Johnson, "Priority queues with update and finding minimum spanning trees", IPL 1975) of
//! 16-byte nodes, beside a table that says where in the heap each timer is, so that one can be called off
//! in O(log n) wherever it is: most timers are timeouts that never come due. Not a timing wheel, as tokio's
//! and Go's predecessors were: deadlines stay exact, and an idle queue has no ticks to make up for.
//!
//! Not synchronised: [`shared`] locks it.

mod heap;
#[cfg(all(test, loom))]
mod loom_test;
mod shared;
#[cfg(all(test, not(loom)))]
mod test;

pub(super) use shared::SharedTimers;

use heap::{Heap, Node};
use std::time::{Duration, Instant};

/// Tables of this size are not worth shrinking.
const SMALL: usize = 1024;

/// A slot of this generation is not used again: a stale key might fit it. That wastes a slot in two billion
/// uses.
const WORN_OUT: u32 = u32::MAX - 1;

/// Names a timer in the queue that it was inserted into. Never used again for another one, so that a stale
/// key does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TimerKey {
    /// What the slot's generation was: odd.
    generation: u32,
    slot: u32,
}

impl TimerKey {
    /// The key as a number, for those who may not know this type.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The key that became this number.
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self {
            generation: (bits >> 32) as u32,
            slot: bits as u32,
        }
    }
}

/// Values to be handed out when their time has come.
///
/// Deadlines are kept as nanoseconds since the queue was made: those before that are all due at once, in
/// the order of insertion, and those more than 584 years later never are.
#[derive(Debug)]
pub(crate) struct TimerQueue<T> {
    origin: Instant,
    heap: Heap,
    /// A value for each slot in use.
    values: Vec<Option<T>>,
    /// How often each slot has changed hands: odd while in use. Kept even for slots that were given back, which
    /// must not begin anew.
    generations: Vec<u32>,
    /// The head of the list of free slots, linked through the heap's table of positions.
    free: Option<u32>,
    /// Breaks ties between equal deadlines.
    next_order: u32,
    /// Timers that are to go before the tables are searched again for what can be given back.
    patience: usize,
}

impl<T> Default for TimerQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> TimerQueue<T> {
    /// A queue without timers.
    pub(crate) fn new() -> Self {
        Self::with_origin(Instant::now())
    }

    fn with_origin(origin: Instant) -> Self {
        Self {
            origin,
            heap: Heap::default(),
            values: Vec::new(),
            generations: Vec::new(),
            free: None,
            next_order: 0,
            patience: 0,
        }
    }

    /// How many timers there are.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Adds a timer. O(1) if it comes due after most others, O(log n) at worst.
    pub(crate) fn insert(&mut self, deadline: Instant, value: T) -> TimerKey {
        let order = self.order();
        let slot = self.free.unwrap_or_else(|| self.add_slot());
        self.free = self.heap.next_free(slot);
        self.values[slot as usize] = Some(value);
        let generation = &mut self.generations[slot as usize];
        *generation += 1;
        let key = TimerKey {
            generation: *generation,
            slot,
        };
        self.heap.push(Node::new(self.nanos(deadline), order, slot));
        key
    }

    /// Calls a timer off, and gives its value back unless it has already been handed out. O(log n).
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<T> {
        // Slots that were given back have even generations, no key has.
        if *self.generations.get(key.slot as usize)? != key.generation || key.generation.is_multiple_of(2) {
            return None;
        }
        self.heap.remove_slot(key.slot);
        self.release(key.slot)
    }

    /// Whether no timer is due before this one: if it has just been inserted, whoever sleeps until the next one
    /// is due must be told.
    pub(crate) fn is_next(&self, key: TimerKey) -> bool {
        let first = self.heap.first().map(Node::slot);
        first == Some(key.slot) && self.generations[key.slot as usize] == key.generation
    }

    /// Hands out the timer that was due first, if any is due at `now`; in the order of insertion where
    /// deadlines are equal. O(log n).
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<(Instant, T)> {
        let first = self.heap.first()?;
        if first.deadline() > self.nanos(now) || first.deadline() == u64::MAX {
            return None;
        }
        self.heap.remove_slot(first.slot());
        let value = self.release(first.slot())?;
        Some((self.instant(first.deadline()), value))
    }

    /// When the next timer is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.heap.first().map(|first| self.instant(first.deadline()))
    }

    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        since
            .as_secs()
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::from(since.subsec_nanos()))
    }

    fn instant(&self, nanos: u64) -> Instant {
        // Where the system's clock does not reach so far, any time that never comes will do.
        const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);
        self.origin
            .checked_add(Duration::from_nanos(nanos))
            .unwrap_or_else(|| self.origin + NEVER)
    }

    fn order(&mut self) -> u32 {
        if self.next_order == u32::MAX {
            self.next_order = self.heap.renumber();
        }
        let order = self.next_order;
        self.next_order += 1;
        order
    }

    /// A slot that was never used, or has been given back.
    fn add_slot(&mut self) -> u32 {
        loop {
            let slot = self.heap.add_slot();
            self.values.push(None);
            if self.generations.len() <= slot as usize {
                self.generations.push(0);
            }
            if self.generations[slot as usize] != WORN_OUT {
                return slot;
            }
        }
    }

    fn release(&mut self, slot: u32) -> Option<T> {
        let value = self.values[slot as usize].take();
        let generation = &mut self.generations[slot as usize];
        *generation += 1;
        if *generation != WORN_OUT {
            self.heap.set_free(slot, self.free);
            self.free = Some(slot);
        }
        if self.values.len() > SMALL && self.len() < self.values.len() / 4 {
            self.patience = self.patience.saturating_sub(1);
            if self.patience == 0 || self.is_empty() {
                self.shrink();
            }
        }
        value
    }

    /// Gives back the tables' memory after a peak, but for 4 bytes a slot. Slots cannot move, since keys name them:
    /// what is given back is what lies after the last one in use, and the lowest free ones are used first from
    /// then on.
    #[cold]
    fn shrink(&mut self) {
        let last = self.values.iter().rposition(Option::is_some);
        self.values.truncate(last.map_or(0, |last| last + 1));
        self.values.shrink_to(SMALL);
        let usable = |slot: usize| self.values[slot].is_none() && self.generations[slot] != WORN_OUT;
        self.free = self.heap.shrink(self.values.len(), SMALL, usable);
        // This took time in proportion to the tables, so that each timer's share is constant. A timer in a high
        // place may have prevented most of it: by the next time, the others have moved to low ones.
        self.patience = self.values.len() / 4;
    }
}
