//! A short wait without sleeping, for a lock that is about to come free on another processor.

use crate::loom::hint;

/// 1 + 2 + 4 + 8 + 16 pauses: about a microsecond, a fraction of what it costs to sleep and be woken.
const ROUNDS: u32 = 5;

pub(super) struct Spin(u32);

impl Spin {
    /// On the only worker of a runtime there is next to nobody to wait for: whoever holds the lock is most
    /// likely parked on this very thread.
    #[cfg(not(loom))]
    pub(super) fn new() -> Self {
        match crate::scheduler::with_current_hub(crate::scheduler::Hub::threads) {
            Some(1) => Self(ROUNDS),
            _ => Self(0),
        }
    }

    /// To a model a pause is nothing but more states.
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self(ROUNDS)
    }

    /// Pauses; false when that has been done often enough.
    #[inline]
    pub(super) fn pause(&mut self) -> bool {
        if self.0 >= ROUNDS {
            return false;
        }
        for _ in 0..1 << self.0 {
            hint::spin_loop();
        }
        self.0 += 1;
        true
    }
}
