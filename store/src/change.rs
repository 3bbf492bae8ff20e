//! Who is told when something changes.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::job::JobId;

/// Something changed. Told after it is durable, possibly once too often, never once too seldom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Jobs may be there to be claimed: enqueued, due, handed back, taken over, or a limit has room again.
    Ready,
    /// These jobs finished; they were acknowledged, cancelled or expired through this store.
    Finished(Vec<JobId>),
    /// These running jobs, of workers registered here, are to be cancelled.
    CancelRequested(Vec<JobId>),
    /// Another process changed something: whoever waits for a job, or for jobs to claim, should look again.
    Elsewhere,
}

/// Is called from a thread of the store's (or, by a memory store, from any that changes it), and must neither block nor
/// call the store's blocking side; to submit a call is fine.
pub type Listener = Arc<dyn Fn(&Change) + Send + Sync>;

/// While it lives, its listener is told.
#[must_use = "the listener is told only while this lives"]
pub struct Watch {
    listeners: Weak<Listeners>,
    key: u64,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(listeners) = self.listeners.upgrade() {
            listeners.lock().1.retain(|(key, _)| *key != self.key);
        }
    }
}

/// The listeners of a store.
#[derive(Default)]
pub(crate) struct Listeners(Mutex<(u64, Vec<(u64, Listener)>)>);

impl Listeners {
    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, Vec<(u64, Listener)>)> {
        // The lock is held for changes of the list alone, which do not panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(self: &Arc<Self>, listener: Listener) -> Watch {
        let mut list = self.lock();
        list.0 += 1;
        let key = list.0;
        list.1.push((key, listener));
        Watch {
            listeners: Arc::downgrade(self),
            key,
        }
    }

    pub(crate) fn any(&self) -> bool {
        !self.lock().1.is_empty()
    }

    /// Tells all of them, without the lock: a listener may end a watch.
    pub(crate) fn tell(&self, change: &Change) {
        let listeners: Vec<Listener> = self
            .lock()
            .1
            .iter()
            .map(|(_, listener)| Arc::clone(listener))
            .collect();
        for listener in listeners {
            // A listener that panics must not take the store's thread with it.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| listener(change)));
        }
    }
}
