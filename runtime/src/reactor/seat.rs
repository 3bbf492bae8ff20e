//! The seat at a worker's poll: its owner sleeps in it, and any other thread may glance in its place while
//! the owner is busy elsewhere. The room's README argues why no wake is lost when they change places.

use crate::fiber::parker::Wake;
use crate::loom::sync::Mutex;
use std::time::Duration;

/// What collects events.
pub(super) trait Selector {
    /// Adds the events there are; waits for the first until `timeout` (`None`: for ever) if there is none.
    fn select(&mut self, timeout: Option<Duration>, found: &mut Found);
}

/// What one look at the poll brought.
#[derive(Default)]
pub(super) struct Found {
    /// The owner was to be woken, for what only it can see.
    pub(super) woken: bool,
    /// Begun, to be finished when no lock is held.
    pub(super) wakes: Vec<Wake>,
}

/// One thread at a time has the poll; the others go on without.
pub(super) struct Seat<S>(Mutex<Inner<S>>);

struct Inner<S> {
    selector: S,
    /// A glance took away the wake that was to end the owner's sleep: the next sleep returns at once.
    owed: bool,
}

impl<S: Selector> Seat<S> {
    pub(super) fn new(selector: S) -> Self {
        Self(Mutex::new(Inner {
            selector,
            owed: false,
        }))
    }

    /// The owner's sleep. `prepare` runs in the seat, before.
    pub(super) fn sleep(&self, timeout: Option<Duration>, prepare: impl FnOnce(&mut S), found: &mut Found) {
        // Blocks while another glances: a system call that does not wait.
        let mut inner = self.0.lock();
        prepare(&mut inner.selector);
        let timeout = if std::mem::take(&mut inner.owed) {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        inner.selector.select(timeout, found);
    }

    /// A look without waiting, unless somebody sits there already. Any thread.
    pub(super) fn glance(&self, found: &mut Found) {
        let Some(mut inner) = self.0.try_lock() else {
            return;
        };
        inner.selector.select(Some(Duration::ZERO), found);
        inner.owed |= std::mem::take(&mut found.woken);
    }
}
