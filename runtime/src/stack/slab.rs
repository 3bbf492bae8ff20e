//! One large mapping, cut into equal slots. Plain bookkeeping: the depot's lock is around all of it.

use super::StackClass;
use super::registry::{self, Span, Ticket};
use super::sys::{self, Mapping};
use std::ptr::NonNull;

/// A class's first slab has at least this size, and the next ones double up to [`MAX_SLAB`].
const FIRST_SLAB: usize = 8 << 20;

/// No slab is larger: a million stacks of 512 KiB are 1,958 mappings.
const MAX_SLAB: usize = 256 << 20;

/// A slab has at least this many slots.
const MIN_SLOTS: usize = 4;

/// The size of the slab that a class with `existing` slabs asks for next.
pub(super) fn slab_size(class: StackClass, existing: usize) -> usize {
    let first = FIRST_SLAB.max(class.size() * MIN_SLOTS);
    (first << existing.min(8)).min(MAX_SLAB)
}

/// The smallest slab of a class, asked for when the kernel has no room for a larger one.
pub(super) fn min_slab_size(class: StackClass) -> usize {
    sys::SLAB_ALIGN.max(class.size())
}

/// A mapping and what has become of its slots.
///
/// A slot goes untouched -> out -> free -> out -> ..., or by way of `bare` where installing its guard
/// failed. `out` covers slots whose guard is being installed.
pub(super) struct Slab {
    mapping: Mapping,
    class: StackClass,
    slots: usize,
    /// Slots below this index have been claimed at least once.
    carved: usize,
    /// Slots somebody holds.
    out: usize,
    /// Slots that were claimed and have no guard yet.
    bare: Vec<usize>,
    /// A bit for each slot that is guarded and held by nobody.
    free: Box<[u64]>,
    ticket: Ticket,
}

impl Slab {
    pub(super) fn new(class: StackClass, len: usize) -> Result<Self, i32> {
        let mapping = Mapping::new(len)?;
        let slots = len / class.size();
        let start = mapping.first().addr().get();
        let ticket = registry::register(Span {
            start,
            end: start + slots * class.size(),
            slot_size: class.size(),
            guard_len: class.guard_len(sys::page_size()),
        });
        let free = vec![0; slots.div_ceil(64)].into_boxed_slice();
        Ok(Self {
            mapping,
            class,
            slots,
            carved: 0,
            out: 0,
            bare: Vec::new(),
            free,
            ticket,
        })
    }

    /// Its place in an ordered table: the lowest address of its first slot.
    pub(super) fn key(&self) -> usize {
        self.mapping.first().addr().get()
    }

    pub(super) fn mapped(&self) -> usize {
        self.mapping.len()
    }

    /// How many of its slots have a guard.
    pub(super) fn guarded(&self) -> usize {
        self.carved - self.bare.len()
    }

    /// How many of its slots somebody holds.
    pub(super) fn out(&self) -> usize {
        self.out
    }

    /// Whether nobody holds a slot of it.
    pub(super) fn is_idle(&self) -> bool {
        self.out == 0
    }

    /// Whether a guarded slot is there to be claimed.
    pub(super) fn has_free(&self) -> bool {
        self.guarded() > self.out
    }

    /// Whether a slot without a guard is there to be claimed.
    pub(super) fn has_bare(&self) -> bool {
        self.carved < self.slots || !self.bare.is_empty()
    }

    /// Whether an address above its start is in one of its slots.
    pub(super) fn contains(&self, address: NonNull<u8>) -> bool {
        self.index(address) < self.slots
    }

    fn address(&self, slot: usize) -> NonNull<u8> {
        sys::advance(self.mapping.first(), slot * self.class.size())
    }

    fn index(&self, address: NonNull<u8>) -> usize {
        (address.addr().get() - self.key()) / self.class.size()
    }

    /// Claims up to `count` guarded slots, the lowest first, so that high slabs become idle.
    pub(super) fn claim_free(&mut self, count: usize, claimed: &mut Vec<NonNull<u8>>) -> usize {
        let mut taken = 0;
        for word in 0..self.free.len() {
            while taken < count && self.free[word] != 0 {
                let bit = self.free[word].trailing_zeros() as usize;
                self.free[word] &= self.free[word] - 1;
                claimed.push(self.address(word * 64 + bit));
                taken += 1;
            }
        }
        self.out += taken;
        taken
    }

    /// Claims up to `count` slots whose guards the caller has to install.
    pub(super) fn claim_bare(&mut self, count: usize, claimed: &mut Vec<NonNull<u8>>) -> usize {
        let mut taken = 0;
        while taken < count && self.has_bare() {
            let slot = self.bare.pop().unwrap_or_else(|| {
                self.carved += 1;
                self.carved - 1
            });
            claimed.push(self.address(slot));
            taken += 1;
        }
        self.out += taken;
        taken
    }

    /// Takes back a slot whose guard could not be installed.
    pub(super) fn return_bare(&mut self, address: NonNull<u8>) {
        self.bare.push(self.index(address));
        self.out -= 1;
    }

    /// Takes back a guarded slot.
    pub(super) fn return_free(&mut self, address: NonNull<u8>) {
        let slot = self.index(address);
        let bit = 1 << (slot % 64);
        assert!(
            self.free[slot / 64] & bit == 0,
            "roving: a stack was given back twice"
        );
        self.free[slot / 64] |= bit;
        self.out -= 1;
    }

    /// Unmaps it, or hands it back where the kernel refuses to.
    pub(super) fn unmap(self) -> Result<(), Self> {
        assert!(
            self.is_idle(),
            "roving: a slab with stacks in use was to be unmapped"
        );
        // SAFETY: nobody holds a slot, and the slab, taken out of the depot's table, can hand out none.
        match unsafe { self.mapping.unmap() } {
            Ok(()) => {
                self.ticket.retire();
                Ok(())
            }
            Err((mapping, _)) => Err(Self { mapping, ..self }),
        }
    }
}
