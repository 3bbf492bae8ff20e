//! Spare workers: they take the place of workers that sit in blocking calls.
//!
//! A worker blocked in a call the runtime cannot see takes its started fibers with it: they wait. Its unstarted
//! work is stealable; when no other worker has time for it, the monitor starts a *spare*, a worker like any
//! other. When the blocked one is back, a spare stops starting fibers (it *rests*), and when its last fiber has
//! ended and some time has passed, its thread ends. Roles are changed by the monitor's thread alone, but for the
//! last step, which the spare takes itself.

use super::hub::{Amount, Hub, Remote};
use crate::fiber::options::Class;
use crate::loom::sync::atomic::{AtomicI32, AtomicU8, Ordering, fence};

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

/// A thread of this process, as the system sees it.
pub(crate) struct SystemThread(AtomicI32);

const NO_THREAD: i32 = 0;

impl SystemThread {
    pub(super) fn new() -> Self {
        Self(AtomicI32::new(NO_THREAD))
    }

    /// Makes it the calling thread.
    pub(super) fn adopt(&self) {
        // SAFETY: takes nothing, fails never.
        let thread = unsafe { libc::gettid() };
        self.0.store(thread, Ordering::Relaxed);
    }

    /// Whether it waits in a system call, as opposed to running or wanting to run; `None` where the system does
    /// not tell. Costs some 10 us.
    pub(crate) fn waits(&self) -> Option<bool> {
        let thread = self.0.load(Ordering::Relaxed);
        if thread == NO_THREAD {
            return None;
        }
        let stat = std::fs::read(format!("/proc/self/task/{thread}/stat")).ok()?;
        // After the thread's name, which is in parentheses and may hold any character: one letter.
        let name_end = stat.iter().rposition(|&byte| byte == b')')?;
        Some(matches!(stat.get(name_end + 2)?, b'S' | b'D'))
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
                self.wake_one(Amount::Plenty);
            }
        }
    }
}
