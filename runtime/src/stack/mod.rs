//! The stacks fibers run on: where their memory comes from, what guards it, and what is said when a
//! fiber overflows it. The README beside this file draws the memory and argues the policy.
//!
//! [`Slabs`] (one per runtime) maps large ranges and cuts them into equal slots; a [`Pool`] (one per
//! worker) keeps warm stacks at hand; a [`Stack`] is one slot with its owner. After the stack pools of
//! Go (`runtime/stack.go`) and the low-water marks of tcmalloc's thread caches.

mod class;
mod depot;
mod error;
#[cfg(not(loom))]
mod overflow;
mod pool;
#[cfg(not(loom))]
mod registry;
#[cfg(loom)]
#[path = "registry_mocked.rs"]
mod registry;
mod slab;
mod slabs;
mod sys;
#[cfg(all(test, not(loom)))]
mod test;
mod warm;

pub(crate) use class::StackClass;
pub use error::StackError;
#[cfg(not(loom))]
pub(crate) use overflow::{AltStack, install as install_overflow_report, set_describe};
pub(crate) use pool::Pool;
pub(crate) use slabs::{Slabs, SlabsConfig};
pub(crate) use sys::GuardKind;

use crate::context::{StackMemory, prefetch};
use crate::loom::sync::Arc;
use depot::{Depot, Slot};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// How far the bases of neighbouring stacks are apart in a page: a cache line.
///
/// All stacks are cut at the same alignment, so that without this the hottest lines of each would
/// compete for the same few cache sets. A switch among 1,000 stacks takes 25% longer then, among 10,000
/// 40%.
const COLOUR_STEP: usize = 64;

/// How many different places there are for a base, where the embedder has no area. A parked fiber's few
/// hundred bytes still fit in the page.
const COLOURS: usize = 16;

/// The same where a page is shared with the embedder's area: its boundary moves by at most 448 bytes.
const COLOURS_SHARED: usize = 8;

/// A stack of one class, and the right to use its memory.
///
/// Give it to a [`Pool`]. One that is dropped goes straight home, at the price of a lock and a system
/// call; one that is forgotten keeps its memory mapped for ever, so that what borrows from it stays valid.
pub(crate) struct Stack {
    /// One past the highest byte of the C stack, the lowest of the embedder's area.
    base: NonNull<u8>,
    /// The lowest address of the slot.
    limit: NonNull<u8>,
    depot: ManuallyDrop<Arc<Depot>>,
    embedder_bytes: u32,
    class: StackClass,
}

// SAFETY: the slot is plain memory that nobody else owns, and the depot is shared between threads.
unsafe impl Send for Stack {}

// SAFETY: the slot stays mapped as long as its `Stack` has not gone home, wherever that is moved: a depot
// unmaps slabs that nobody holds a slot of, and only those. The guard is installed before the stack is
// made. The smallest slot less its guard, the largest embedder area and the largest colour is more than
// 4,096 bytes, and `Stack::new` aligns the base.
unsafe impl StackMemory for Stack {
    #[inline]
    fn base(&self) -> usize {
        self.base.as_ptr().expose_provenance()
    }

    #[inline]
    fn limit(&self) -> usize {
        self.limit.as_ptr().expose_provenance()
    }
}

impl Stack {
    /// The stack in a slot that has been claimed and guarded.
    fn new(slot: NonNull<u8>, class: StackClass, embedder_bytes: u32, depot: &Arc<Depot>) -> Self {
        let colours = if embedder_bytes == 0 {
            COLOURS
        } else {
            COLOURS_SHARED
        };
        let colour = slot.addr().get() / class.size() % colours * COLOUR_STEP;
        let base = (class.size() - embedder_bytes as usize - colour) & !15;
        Self {
            base: sys::advance(slot, base),
            limit: slot,
            depot: ManuallyDrop::new(depot.clone()),
            embedder_bytes,
            class,
        }
    }

    /// The class it was taken from.
    #[inline]
    pub(crate) fn class(&self) -> StackClass {
        self.class
    }

    /// The lowest address above the guard.
    #[inline]
    pub(crate) fn usable_limit(&self) -> usize {
        self.limit.addr().get() + self.class.guard_len(sys::page_size())
    }

    /// The embedder's bytes, from the base up, 16-byte aligned. On a stack that is used for the first time
    /// they are zero; later they may be zero, or what the last user left.
    #[inline]
    pub(crate) fn embedder_area(&self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.base, self.embedder_bytes as usize)
    }

    /// Asks the cache for what a fiber that starts on it will write first.
    #[inline]
    fn prefetch(&self) {
        const BYTES: usize = 384;
        prefetch(self.base.as_ptr().wrapping_sub(BYTES), BYTES);
    }

    /// Parts with the slot, for the depot.
    fn into_slot(self) -> Slot {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped nor looked at again.
        unsafe { ManuallyDrop::drop(&mut this.depot) };
        (this.class, this.limit)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: this is the value's end: nobody looks at the field again.
        let depot = unsafe { ManuallyDrop::take(&mut self.depot) };
        depot.put(&mut [(self.class, self.limit)]);
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stack({:p}..{:p}, {:?})", self.limit, self.base, self.class)
    }
}
