//! Spare workers: they take the place of workers that sit in blocking calls.
//!
//! A worker blocked in a call the runtime cannot see takes its started fibers with it: they wait. Its unstarted
//! work is stealable; when no other worker has time for it, the monitor starts a *spare*, a worker like any
//! other. When the blocked one is back, a spare stops starting fibers (it *rests*), and when its last fiber has
//! ended and some time has passed, its thread ends. Roles are changed by the monitor's thread alone, but for the
//! last step, which the spare takes itself.

use super::hub::{Hub, Remote};
use crate::fiber::options::Class;
use crate::loom::sync::atomic::{AtomicI32, AtomicU8, Ordering, fence};
use std::time::Duration;

/// What a place among the workers is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    /// No thread.
    Vacant = 0,
    /// A worker that starts fibers.
    Active = 1,
    /// A worker that only goes on with those it has.
    Resting = 2,
}

/// A [`Role`] that several threads see.
pub(crate) struct RoleCell(AtomicU8);

impl RoleCell {
    pub(super) fn new(role: Role) -> Self {
        Self(AtomicU8::new(role as u8))
    }

    #[inline]
    pub(crate) fn get(&self) -> Role {
        match self.0.load(Ordering::Acquire) {
            0 => Role::Vacant,
            1 => Role::Active,
            _ => Role::Resting,
        }
    }

    /// True when it was `from` and is `to` now.
    pub(crate) fn change(&self, from: Role, to: Role) -> bool {
        self.0
            .compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// The clock of a thread's processor time, for others to read.
pub(crate) struct CpuClock(AtomicI32);

const NO_CLOCK: i32 = 0;

impl CpuClock {
    pub(super) fn new() -> Self {
        Self(AtomicI32::new(NO_CLOCK))
    }

    /// Makes it the calling thread's.
    pub(super) fn adopt(&self) {
        let mut clock: libc::clockid_t = 0;
        // SAFETY: no more than a question.
        let this = unsafe { libc::pthread_self() };
        // SAFETY: the calling thread is alive, and the clock is written to a valid place.
        let failed = unsafe { libc::pthread_getcpuclockid(this, &mut clock) };
        self.0
            .store(if failed == 0 { clock } else { NO_CLOCK }, Ordering::Relaxed);
    }

    /// The processor time its thread has used; `None` when there is no thread, or no telling.
    pub(crate) fn read(&self) -> Option<Duration> {
        let clock = self.0.load(Ordering::Relaxed);
        if clock == NO_CLOCK {
            return None;
        }
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the kernel checks the clock; the time is written to a valid place.
        let failed = unsafe { libc::clock_gettime(clock, &mut time) };
        (failed == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
}

impl Remote {
    /// Whether it takes part in starting fibers.
    #[inline]
    pub(super) fn is_active(&self) -> bool {
        self.role.get() == Role::Active
    }
}

impl Hub {
    /// The workers there are, spares and the places of retired ones included.
    pub(crate) fn workers(&self) -> &[Remote] {
        &self.remotes[..self.used.load(Ordering::Acquire)]
    }

    /// A place for one more spare; `None` when all are taken.
    pub(crate) fn vacancy(&self) -> Option<usize> {
        (self.regular..self.remotes.len()).find(|&index| self.remotes[index].role.get() == Role::Vacant)
    }

    /// Counts in a spare whose thread is about to start. Its driver is set.
    pub(crate) fn enlist(&self, index: usize) {
        self.threads.fetch_add(1, Ordering::Relaxed);
        self.used.fetch_max(index + 1, Ordering::AcqRel);
        self.remotes[index].stuck.store(false, Ordering::Relaxed);
        self.remotes[index].role.change(Role::Vacant, Role::Active);
    }

    /// Undoes [`Hub::enlist`] of a spare whose thread did not start, or ends.
    pub(crate) fn dismiss(&self, index: usize, from: Role) -> bool {
        let remote = &self.remotes[index];
        if !remote.role.change(from, Role::Vacant) {
            return false;
        }
        self.threads.fetch_sub(1, Ordering::Relaxed);
        // Pairs with the fence after the push in `hand_to`: either the pusher sees that nobody is here, or we
        // see what it pushed.
        fence(Ordering::SeqCst);
        self.forward_mail(index);
        true
    }

    /// Gives work that was meant for one worker to whoever has time.
    pub(super) fn forward_mail(&self, index: usize) {
        let remote = &self.remotes[index];
        for class in Class::ALL {
            while let Some(work) = super::steal(|| remote.mailbox[class.index()].steal()) {
                remote.mailed.fetch_sub(1, Ordering::Relaxed);
                self.injector[class.index()].push(work);
                self.wake_one();
            }
        }
    }
}
