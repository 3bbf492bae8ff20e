//! The started fibers of one worker that have suspended at least once, for `dump()` and for shutdown.
//! A fiber that runs to its end in one go is never listed: it pays nothing.

use crate::fiber::{Core, FiberRef};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

#[derive(Default)]
pub(crate) struct Registry {
    places: Vec<Place>,
    free: Option<u32>,
    len: usize,
}

enum Place {
    /// The next free place.
    Free(Option<u32>),
    Fiber(NonNull<Core>),
}

// SAFETY: the pointers are only followed under the lock the registry lives in, while the fiber is
// listed; it is taken out before the scheduler's reference goes.
unsafe impl Send for Registry {}

impl Registry {
    pub(super) fn insert(&mut self, core: NonNull<Core>) -> u32 {
        self.len += 1;
        match self.free {
            Some(place) => {
                let slot = &mut self.places[place as usize];
                let Place::Free(next) = *slot else {
                    unreachable!("the free list holds free places")
                };
                self.free = next;
                *slot = Place::Fiber(core);
                place
            }
            None => {
                self.places.push(Place::Fiber(core));
                u32::try_from(self.places.len() - 1).expect("fewer than four thousand million fibers")
            }
        }
    }

    pub(super) fn remove(&mut self, place: u32) {
        self.places[place as usize] = Place::Free(self.free.replace(place));
        self.len -= 1;
        // A burst must not hold its memory for ever.
        if self.len == 0 && self.places.capacity() > 1024 {
            *self = Self::default();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The listed fibers. References taken from it may outlive the lock.
    pub(crate) fn iter(&self) -> impl Iterator<Item = FiberRef> + '_ {
        self.places.iter().filter_map(|place| match place {
            // SAFETY: listed, so the scheduler's reference exists; the copy is forgotten.
            Place::Fiber(core) => Some((*ManuallyDrop::new(unsafe { FiberRef::from_raw(*core) })).clone()),
            Place::Free(_) => None,
        })
    }
}
