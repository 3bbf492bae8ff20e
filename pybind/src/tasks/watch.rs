//! What happens in the store: who is told, and who waits for a job to finish.
//!
//! Listeners run on the store's threads, which never attach, and, with a store in memory, on whatever thread made the call. They
//! note what happened under a small lock, and wake after it.

use crate::sync::hold;
use crate::sync::queue::Queue;
use crate::wait::{Waiter, Why};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use roving_store::{Change, JobId, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What happened since the last look.
#[derive(Default)]
struct Noted {
    ready: bool,
    finished: Vec<JobId>,
    cancels: Vec<JobId>,
    elsewhere: bool,
    /// Somebody called `wake`.
    woken: bool,
}

impl Noted {
    fn is_empty(&self) -> bool {
        !self.ready && !self.elsewhere && !self.woken && self.finished.is_empty() && self.cancels.is_empty()
    }
}

/// Its lock is held for a few instructions: see the module's documentation.
struct State {
    noted: Noted,
    queue: Queue,
    with_finished: bool,
}

impl State {
    /// Notes something, and gives back who is to be woken.
    fn note(&mut self, note: impl FnOnce(&mut Noted)) -> Option<Arc<Waiter>> {
        note(&mut self.noted);
        if self.noted.is_empty() {
            return None;
        }
        self.queue.choose(0)
    }
}

/// Is told of changes from when it is made.
#[pyclass(frozen, module = "roving", name = "_Watch")]
pub(crate) struct Watch {
    state: Arc<Mutex<State>>,
    watch: Mutex<Option<roving_store::Watch>>,
}

/// What `wait` gives: whether there may be jobs to claim, ids of jobs that finished, ids of running ones that are to be cancelled,
/// and whether another process changed something.
type Happened = (bool, Vec<String>, Vec<String>, bool);

impl Watch {
    pub(super) fn new(store: &Arc<dyn Store>) -> Self {
        let state = Arc::new(Mutex::new(State {
            noted: Noted::default(),
            queue: Queue::new(),
            with_finished: false,
        }));
        let told = Arc::clone(&state);
        let watch = store.watch(Arc::new(move |change: &Change| {
            let waiter = {
                let mut state = hold(&told);
                let with_finished = state.with_finished;
                state.note(|noted| match change {
                    Change::Ready => noted.ready = true,
                    Change::Finished(ids) if with_finished => noted.finished.extend(ids),
                    Change::Finished(_) => {}
                    Change::CancelRequested(ids) => noted.cancels.extend(ids),
                    Change::Elsewhere => noted.elsewhere = true,
                })
            };
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }));
        Self {
            state,
            watch: Mutex::new(Some(watch)),
        }
    }
}

#[pymethods]
impl Watch {
    /// Tell of jobs that finish, too, from now on.
    fn tell_finished(&self) {
        hold(&self.state).with_finished = true;
    }

    /// Wait until something happens, for at most so many seconds; what happened since the last time. For one at a time.
    ///
    /// A tuple: whether there may be jobs to claim, ids of jobs that finished, ids of running ones that are to be cancelled, and
    /// whether another process changed something.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Happened> {
        let deadline = crate::timeout::deadline(timeout)?;
        let waiter = {
            let mut state = hold(&self.state);
            if !state.noted.is_empty() {
                None
            } else if state.queue.is_empty() {
                let waiter = Arc::new(Waiter::new());
                state.queue.push(&waiter);
                Some(waiter)
            } else {
                return Err(PyRuntimeError::new_err("somebody else waits for this watch"));
            }
        };
        if let Some(waiter) = waiter {
            let waited = waiter.wait(py, deadline, Why::Store);
            if !matches!(waited, Ok(true)) {
                hold(&self.state).queue.give_up(&waiter);
                // What was noted meanwhile stays noted.
                waited?;
            }
        }
        let noted = std::mem::take(&mut hold(&self.state).noted);
        let texts = |ids: Vec<JobId>| ids.iter().map(JobId::to_string).collect();
        Ok((
            noted.ready,
            texts(noted.finished),
            texts(noted.cancels),
            noted.elsewhere,
        ))
    }

    /// End the wait of whoever waits, or the next one.
    fn wake(&self) {
        let waiter = hold(&self.state).note(|noted| noted.woken = true);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Be told no more.
    fn close(&self) {
        let watch = hold(&self.watch).take();
        drop(watch);
    }
}

/// Who waits for which jobs to finish.
#[derive(Default)]
pub(super) struct Finishes {
    /// Its lock is held for a few instructions.
    waiters: Mutex<HashMap<JobId, Vec<Arc<Waiter>>>>,
    /// Made when somebody waits for the first time.
    watch: Mutex<Option<roving_store::Watch>>,
}

impl Finishes {
    /// Somebody begins to wait for a job: whatever happens to it from here on ends the wait.
    pub(super) fn wait_for(self: &Arc<Self>, store: &Arc<dyn Store>, id: JobId) -> Waiting {
        let is_first = hold(&self.watch).is_none();
        if is_first {
            let told = Arc::downgrade(self);
            let watch = store.watch(Arc::new(move |change: &Change| {
                if let Some(finishes) = told.upgrade() {
                    finishes.tell(change);
                }
            }));
            // Two may come here at once: then everybody is told twice, until the first of the watches is dropped here.
            let before = hold(&self.watch).replace(watch);
            drop(before);
        }
        let waiter = Arc::new(Waiter::new());
        let mut waiters = hold(&self.waiters);
        waiters.entry(id).or_default().push(Arc::clone(&waiter));
        drop(waiters);
        Waiting {
            finishes: Arc::clone(self),
            id,
            waiter,
        }
    }

    fn tell(&self, change: &Change) {
        let chosen: Vec<Arc<Waiter>> = {
            let mut waiters = hold(&self.waiters);
            match change {
                Change::Finished(ids) if !waiters.is_empty() => {
                    ids.iter().filter_map(|id| waiters.remove(id)).flatten().collect()
                }
                Change::Elsewhere => waiters.drain().flat_map(|(_, waiters)| waiters).collect(),
                _ => return,
            }
        };
        wake(chosen);
    }

    /// The store is closed: whoever waits finds that out.
    pub(super) fn end(&self) {
        let chosen: Vec<_> = hold(&self.waiters).drain().flat_map(|(_, all)| all).collect();
        wake(chosen);
        let watch = hold(&self.watch).take();
        drop(watch);
    }
}

/// Out of their list already: nobody else chooses them, and who gives up meanwhile says so itself.
fn wake(waiters: Vec<Arc<Waiter>>) {
    for waiter in waiters {
        if waiter.choose(0) {
            waiter.wake();
        }
    }
}

/// Somebody who waits for a job.
pub(super) struct Waiting {
    finishes: Arc<Finishes>,
    id: JobId,
    waiter: Arc<Waiter>,
}

impl Waiting {
    /// Waits until something may have happened to the job; false when `deadline` came first.
    pub(super) fn wait(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<bool> {
        self.waiter.wait(py, deadline, Why::Store)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiters = hold(&self.finishes.waiters);
        if let Some(waiting) = waiters.get_mut(&self.id) {
            waiting.retain(|one| !Arc::ptr_eq(one, &self.waiter));
            if waiting.is_empty() {
                waiters.remove(&self.id);
            }
        }
    }
}
