//! Fiber numbers, handed to each thread in blocks so that spawning shares no cache line.

use super::core::FiberId;
use std::cell::Cell;
use std::num::NonZeroU64;
// Not part of any protocol: loom has nothing to check here, and its atomics cannot be statics.
use crate::loom::statics::AtomicU64;
use crate::loom::sync::atomic::Ordering;

const BLOCK: u64 = 256;

static NEXT_BLOCK: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The next number, and the end of the block.
    static OURS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

pub(super) fn next() -> FiberId {
    let number = OURS.with(|ours| {
        let (mut next, mut end) = ours.get();
        if next == end {
            next = NEXT_BLOCK.fetch_add(1, Ordering::Relaxed) * BLOCK + 1;
            end = next + BLOCK;
        }
        ours.set((next + 1, end));
        next
    });
    FiberId(NonZeroU64::new(number).expect("blocks start at one"))
}
