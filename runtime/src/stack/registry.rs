//! What the stacks of all runtimes in the process share: a list of slabs that a signal handler can
//! read, and the count of mappings spent on guards.
//!
//! The list only grows. An entry is a seqlock (Boehm, "Can seqlocks get along with programming language
//! memory models?", MSPC 2012): the writer, under a lock, makes the sequence odd, changes the fields and
//! makes it even again; the handler believes only what it read under one even number. It never waits,
//! since it may have interrupted the writer on its own thread: after a few tries it takes the entry for
//! dead, which at worst leaves a fault to the previous handler.

use crate::loom::sync::Mutex;
use crate::loom::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};

/// Entries are added in blocks of this many.
const BLOCK: usize = 128;

/// How often the handler reads an entry that is being changed.
const TRIES: usize = 16;

/// The slots of one slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The lowest address of the first slot.
    pub(super) start: usize,
    /// One past the highest address of the last slot; equal to `start` in an entry not in use.
    pub(super) end: usize,
    /// The distance from one slot to the next.
    pub(super) slot_size: usize,
    /// How many bytes at the low end of each slot are guard.
    pub(super) guard_len: usize,
}

struct Entry {
    sequence: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    slot_size: AtomicUsize,
    guard_len: AtomicUsize,
}

impl Entry {
    const fn new() -> Self {
        Self {
            sequence: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            slot_size: AtomicUsize::new(1),
            guard_len: AtomicUsize::new(0),
        }
    }

    /// Only called with [`FREE`] locked.
    fn write(&self, span: Span) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        // A reader that sees any field below and then fences sees the odd number above as well.
        fence(Ordering::Release);
        self.start.store(span.start, Ordering::Relaxed);
        self.end.store(span.end, Ordering::Relaxed);
        self.slot_size.store(span.slot_size, Ordering::Relaxed);
        self.guard_len.store(span.guard_len, Ordering::Relaxed);
        // Pairs with the Acquire load in `read`.
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    fn read(&self) -> Option<Span> {
        for _ in 0..TRIES {
            // Pairs with the Release store in `write`.
            let before = self.sequence.load(Ordering::Acquire);
            let span = Span {
                start: self.start.load(Ordering::Relaxed),
                end: self.end.load(Ordering::Relaxed),
                slot_size: self.slot_size.load(Ordering::Relaxed),
                guard_len: self.guard_len.load(Ordering::Relaxed),
            };
            // Pairs with the Release fence in `write`: no field is newer than the number read next.
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                return Some(span);
            }
        }
        None
    }
}

struct Block {
    entries: [Entry; BLOCK],
    next: AtomicPtr<Block>,
}

impl Block {
    const fn new() -> Self {
        Self {
            entries: [const { Entry::new() }; BLOCK],
            next: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    fn next(&self) -> Option<&'static Block> {
        // Pairs with the Release store in `Registry::take`.
        let next = self.next.load(Ordering::Acquire);
        // SAFETY: `next` is null or a leaked block, written before it was linked in.
        unsafe { next.as_ref() }
    }
}

struct Free {
    entries: Vec<&'static Entry>,
    /// The last block; none before the first registration.
    last: Option<&'static Block>,
}

static FIRST: Block = Block::new();
static FREE: Mutex<Free> = Mutex::new(Free {
    entries: Vec::new(),
    last: None,
});
static GUARD_MAPPINGS: AtomicUsize = AtomicUsize::new(0);

/// A slab's place in the list.
pub(super) struct Ticket(&'static Entry);

impl Ticket {
    /// Takes the slab off the list.
    pub(super) fn retire(self) {
        let mut free = FREE.lock();
        self.0.write(Span {
            start: 0,
            end: 0,
            slot_size: 1,
            guard_len: 0,
        });
        free.entries.push(self.0);
    }
}

/// Puts a slab on the list.
pub(super) fn register(span: Span) -> Ticket {
    let mut free = FREE.lock();
    if free.entries.is_empty() {
        let block: &'static Block = match free.last {
            None => &FIRST,
            Some(last) => {
                let block = Box::leak(Box::new(Block::new()));
                let link: *mut Block = block;
                // Pairs with the Acquire load in `Block::next`.
                last.next.store(link, Ordering::Release);
                block
            }
        };
        free.last = Some(block);
        free.entries.extend(&block.entries);
    }
    let entry = free.entries.pop().expect("a block has entries");
    entry.write(span);
    Ticket(entry)
}

/// The slab whose guard pages hold `address`, and the lowest address of the slot in question.
///
/// Async-signal-safe: takes no lock, allocates nothing, always ends.
pub(super) fn find_guard(address: usize) -> Option<(Span, usize)> {
    let mut block = Some(&FIRST);
    while let Some(current) = block {
        for span in current.entries.iter().filter_map(Entry::read) {
            if (span.start..span.end).contains(&address) {
                let offset = (address - span.start) % span.slot_size;
                return (offset < span.guard_len).then_some((span, address - offset));
            }
        }
        block = current.next();
    }
    None
}

/// Counts `more` mappings for guards, unless that would make more than `allowed`.
pub(super) fn charge_mappings(more: usize, allowed: usize) -> bool {
    let charge = |used: usize| used.checked_add(more).filter(|&used| used <= allowed);
    GUARD_MAPPINGS
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge)
        .is_ok()
}

/// How many mappings the guards of this process use.
pub(super) fn mappings() -> usize {
    GUARD_MAPPINGS.load(Ordering::Relaxed)
}

/// Takes back what [`charge_mappings`] counted.
pub(super) fn refund_mappings(fewer: usize) {
    GUARD_MAPPINGS.fetch_sub(fewer, Ordering::Relaxed);
}
