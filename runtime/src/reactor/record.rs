//! The record of a descriptor, and where it is registered.

use super::error::WaitError;
use super::fallback;
use super::fork::Process;
use super::readiness::{
    Direction, Entered, Event, Left, Proof, Readiness, Registration, Snapshot, ToClosed, ToUnready,
};
use super::selector::{Interests, Key, Watcher};
use super::thread_wait;
use crate::fiber::parker::{Parker, Wake};
use crate::fiber::wait_list::WaitNode;
use crate::loom::sync::Arc;
use crate::loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::task::{Context, Poll};
use std::time::Instant;

/// Whose descriptor it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ours: nobody closes it without telling the record, so a registration can be relied upon. It lasts as
    /// long as the record.
    Owned,
    /// Somebody else's, who may have replaced the file behind the number: each waiter makes sure that the
    /// registration is for the file of now. The record lasts as long as somebody waits.
    Foreign,
}

/// See the room's README.
pub(crate) struct Record {
    pub(super) key: Key,
    pub(super) kind: Kind,
    readiness: Readiness<Place>,
}

/// A driver, as the records registered with it see it.
pub(super) struct Registrar {
    watcher: Watcher,
    /// Records with waiters: while there are none, nobody need look at the poll.
    waited_for: AtomicUsize,
    /// Its worker has left; another may take its place.
    shut: AtomicBool,
    process: Process,
}

/// Where a record is registered, if it is.
struct Place {
    key: Key,
    kind: Kind,
    at: Option<At>,
    /// Whether the registrar counts it among those waited for.
    counted: bool,
}

struct At {
    registrar: Arc<Registrar>,
    interests: Interests,
}

impl Record {
    /// `assumed`: whether calls are worth trying before any event.
    pub(super) fn new(key: Key, kind: Kind, assumed: bool) -> Self {
        let place = Place {
            key,
            kind,
            at: None,
            counted: false,
        };
        Self {
            key,
            kind,
            readiness: Readiness::new(assumed, place),
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.key.fd
    }

    #[inline]
    pub(super) fn load(&self) -> Snapshot {
        self.readiness.load()
    }

    #[inline]
    pub(super) fn unready(&self, seen: Snapshot, direction: Direction, proof: Proof) -> ToUnready {
        self.readiness.unready(seen, direction, proof)
    }

    pub(super) fn notify(&self, event: Event, wakes: &mut Vec<Wake>) {
        self.readiness.notify(event, wakes);
    }

    /// Ends all waits, now and later, and the registration.
    pub(super) fn close(&self, wakes: &mut Vec<Wake>) -> ToClosed {
        self.readiness.close(wakes)
    }

    /// The driver goes: whoever waits through it looks for another.
    pub(super) fn move_from(&self, registrar: &Registrar, wakes: &mut Vec<Wake>) {
        self.readiness.unsettle(
            |place| {
                let ours = place
                    .at
                    .as_ref()
                    .is_some_and(|at| std::ptr::eq(&*at.registrar, registrar));
                if ours {
                    place.unregister();
                }
                ours
            },
            wakes,
        );
    }

    #[cfg(test)]
    pub(super) fn is_registered_with(&self, registrar: &Registrar) -> bool {
        let mut is = false;
        let look = |place: &mut Place| {
            is = place
                .at
                .as_ref()
                .is_some_and(|at| std::ptr::eq(&*at.registrar, registrar));
            false
        };
        self.readiness.unsettle(look, &mut Vec::new());
        is
    }

    /// Blocks until an event for `direction`, or spuriously. The caller has proof that it is not ready.
    pub(super) fn wait(&self, direction: Direction, deadline: Option<Instant>) -> Result<(), WaitError> {
        match Parker::current() {
            parker @ Parker::Fiber(_) => self.readiness.wait(direction, &parker, deadline),
            Parker::Thread(_) => thread_wait::wait(self.key.fd, &self.readiness, direction, deadline),
        }
    }

    /// See [`Readiness::enter`].
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn enter(
        &self,
        direction: Direction,
        node: NonNull<WaitNode>,
        arm: bool,
    ) -> Result<Entered, WaitError> {
        // SAFETY: passed on to the caller.
        unsafe { self.readiness.enter(direction, node, arm) }
    }

    /// See [`Readiness::leave`].
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn leave(&self, direction: Direction, node: NonNull<WaitNode>) -> Left {
        // SAFETY: passed on to the caller.
        unsafe { self.readiness.leave(direction, node) }
    }

    /// As [`Record::wait`], for a stackless future.
    pub(super) fn poll(&self, direction: Direction, cx: &Context<'_>) -> Poll<Result<(), WaitError>> {
        self.readiness.poll(direction, cx)
    }
}

impl Registrar {
    pub(super) fn new(watcher: Watcher) -> Self {
        Self {
            watcher,
            waited_for: AtomicUsize::new(0),
            shut: AtomicBool::new(false),
            process: Process::enroll(),
        }
    }

    #[inline]
    pub(super) fn is_waited_for(&self) -> bool {
        self.waited_for.load(Ordering::Relaxed) != 0
    }

    /// Sends the waiters of all its records to other drivers.
    pub(super) fn shut(&self) {
        // Release, and then each record's lock: who registers after our visit sees it and looks elsewhere.
        if self.shut.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut wakes = Vec::new();
        super::table::for_each(|record| record.move_from(self, &mut wakes));
        super::driver::finish(&mut wakes);
    }

    /// Called by its worker, which is there.
    pub(super) fn open(&self) {
        if self.is_shut() {
            self.shut.store(false, Ordering::Release);
        }
    }

    fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire) || self.is_of_parent()
    }

    /// Whether it came here through a fork.
    pub(super) fn is_of_parent(&self) -> bool {
        self.process != Process::current()
    }
}

impl Place {
    fn unregister(&mut self) {
        self.uncount();
        if let Some(at) = self.at.take() {
            // In a child of a fork the poll is the parent's too, and so is the registration.
            if !at.registrar.is_of_parent() {
                // A foreign descriptor may be gone, or be another file: the kernel has then forgotten it.
                let _ = at.registrar.watcher.remove(self.key.fd);
            }
        }
    }

    fn uncount(&mut self) {
        if std::mem::take(&mut self.counted)
            && let Some(at) = &self.at
        {
            at.registrar.waited_for.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn register(&mut self, registrar: &Arc<Registrar>, interests: Interests) -> io::Result<()> {
        match registrar.watcher.add(self.key, interests) {
            // The same file under the same number, left there by a record that is gone.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                registrar.watcher.change(self.key, interests)?;
            }
            added => added?,
        }
        self.at = Some(At {
            registrar: registrar.clone(),
            interests,
        });
        Ok(())
    }

    /// Makes sure that the registration where it is covers `interests`.
    fn extend(&mut self, interests: Interests) -> io::Result<()> {
        let Some(at) = &mut self.at else { return Ok(()) };
        let union = at.interests.union(interests);
        if union != at.interests || self.kind == Kind::Foreign {
            at.registrar.watcher.change(self.key, union)?;
            at.interests = union;
        }
        Ok(())
    }
}

impl Registration for Place {
    fn arm(&mut self, direction: Direction, alone: bool) -> io::Result<()> {
        let interests = Interests::of(direction, self.kind == Kind::Owned);
        fallback::with_registrar(|here| match &self.at {
            None => self.register(here, interests),
            Some(at) if Arc::ptr_eq(&at.registrar, here) => self.extend(interests),
            Some(at) if !alone && !at.registrar.is_shut() => self.extend(interests),
            // Its only waiter lives here: events cross from one worker to another no more. What was ready
            // at the old place is reported by the new one, since a registration reports what it finds.
            Some(at) => {
                let interests = at.interests.union(interests);
                self.unregister();
                self.register(here, interests)
            }
        })
    }

    fn waiters_changed(&mut self, waiting: usize) {
        let count = waiting != 0 && self.at.is_some();
        if count == self.counted {
            return;
        }
        if !count {
            return self.uncount();
        }
        self.counted = true;
        if let Some(at) = &self.at {
            at.registrar.waited_for.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn disarm(&mut self) {
        self.unregister();
    }
}
