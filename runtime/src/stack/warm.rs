//! Stacks that came home with their memory: kept for the next burst, given up little by little.

use super::StackClass;
use super::depot::Slot;
use std::collections::VecDeque;
use std::ptr::NonNull;

/// How many stacks of a class are kept, as long as that is no more than [`MAX_SPACE`] of address space. With a page
/// each, these are 512 MiB.
const MAX_KEPT: usize = 128 << 10;

const MAX_SPACE: usize = 64 << 30;

/// One in so many of the stacks that were not needed in an epoch is given up in the next one, and no fewer than [`FEW`].
const SHARE: usize = 8;

const FEW: usize = 64;

/// How many stacks of a class may be kept.
pub(super) const fn room(class: StackClass) -> usize {
    let fit = MAX_SPACE / class.size();
    if fit < MAX_KEPT { fit } else { MAX_KEPT }
}

/// Slots that are guarded, held by nobody, and as their last users left them. To their slabs they are `out`.
#[derive(Default)]
pub(super) struct Warm {
    shelves: [Shelf; StackClass::COUNT],
}

// SAFETY: a slot in here is memory that nobody holds, of no thread in particular.
unsafe impl Send for Warm {}

#[derive(Default)]
struct Shelf {
    /// The coldest first.
    slots: VecDeque<NonNull<u8>>,
    /// The fewest there have been in this epoch: so many were not needed.
    idle: usize,
    /// How many are to be given up before the next epoch ends.
    surplus: usize,
}

impl Warm {
    /// Appends up to `count` slots of a class, the warmest first.
    pub(super) fn take(&mut self, class: StackClass, count: usize, slots: &mut Vec<NonNull<u8>>) {
        let shelf = &mut self.shelves[class.index()];
        let rest = shelf.slots.len().saturating_sub(count);
        slots.extend(shelf.slots.drain(rest..).rev());
        shelf.idle = shelf.idle.min(rest);
        shelf.surplus = shelf.surplus.min(rest);
    }

    /// Keeps a slot, if there is room.
    pub(super) fn keep(&mut self, (class, slot): Slot) -> Result<(), Slot> {
        let shelf = &mut self.shelves[class.index()];
        if shelf.slots.len() >= room(class) {
            return Err((class, slot));
        }
        shelf.slots.push_back(slot);
        Ok(())
    }

    /// Ends an epoch: some of what was not needed in it, the coldest, is to be given up in the next one.
    pub(super) fn end_epoch(&mut self) {
        for shelf in &mut self.shelves {
            shelf.surplus = (shelf.idle / SHARE).max(shelf.idle.min(FEW));
            shelf.idle = shelf.slots.len();
        }
    }

    /// Takes out up to `count` slots that are to be given up.
    pub(super) fn give_up(&mut self, count: usize) -> Vec<Slot> {
        let mut given_up = Vec::new();
        for (class, shelf) in StackClass::all().zip(&mut self.shelves) {
            let count = shelf.surplus.min(count - given_up.len());
            if count == 0 {
                continue;
            }
            given_up.extend(shelf.slots.drain(..count).map(|slot| (class, slot)));
            shelf.surplus -= count;
            shelf.idle = shelf.idle.min(shelf.slots.len());
            if shelf.surplus == 0 {
                shelf.slots.shrink_to(2 * shelf.slots.len());
            }
        }
        given_up
    }

    /// Takes out all slots.
    pub(super) fn clear(&mut self) -> Vec<Slot> {
        let shelves = std::mem::take(&mut self.shelves);
        let slots = StackClass::all().zip(shelves);
        slots
            .flat_map(|(class, shelf)| shelf.slots.into_iter().map(move |slot| (class, slot)))
            .collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.shelves.iter().map(|shelf| shelf.slots.len()).sum()
    }
}
