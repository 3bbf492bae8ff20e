//! The store's calls that look after it.

use super::call::{Patience, wait};
use super::convert::{self, page};
use super::jobs;
use super::store::status_names;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use roving_store::{Once, QueueSettings, Store, TickOutcome, WorkerId};
use std::sync::Arc;

/// A store's calls that look after it: what it has, schedules, limits. A store gives it.
#[pyclass(frozen, module = "roving", name = "_JobStoreAdmin")]
pub(crate) struct Admin {
    store: Arc<dyn Store>,
}

impl Admin {
    pub(super) fn new(store: &Arc<dyn Store>) -> Self {
        Self {
            store: Arc::clone(store),
        }
    }
}

#[pymethods]
impl Admin {
    /// The workers that the store knows.
    fn workers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let workers = wait(py, Patience::Cancellable, |done| self.store.workers(done))?;
        let list = PyList::empty(py);
        for worker in &workers {
            list.append(convert::worker(py, worker)?)?;
        }
        Ok(list)
    }

    /// Take a worker's jobs away although it lives; return how many it had, and how many are quarantined now.
    #[pyo3(signature = (worker, /))]
    fn evict(&self, py: Python<'_>, worker: i64) -> PyResult<(u64, u64)> {
        let taken = wait(py, Patience::Cancellable, |done| {
            self.store.evict(WorkerId(worker), done);
        })?;
        Ok((taken.jobs, taken.quarantined))
    }

    /// Queue the jobs of dead workers again; return how many they had, and how many are quarantined now.
    fn take_over(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let taken = wait(py, Patience::Cancellable, |done| self.store.take_over(done))?;
        Ok((taken.jobs, taken.quarantined))
    }

    /// Jobs without payloads, results and tracebacks, in the order of their enqueueing.
    #[pyo3(signature = (filter=None, after=None, limit=100, newest_first=false, /))]
    fn list<'py>(
        &self,
        py: Python<'py>,
        filter: Option<&Bound<'py, PyDict>>,
        after: Option<&str>,
        limit: usize,
        newest_first: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let (filter, page) = (convert::filter(filter)?, page(after, limit, newest_first)?);
        let found = wait(py, Patience::Cancellable, |done| {
            self.store.list(filter, page, done);
        })?;
        let list = PyList::empty(py);
        for job in &found {
            list.append(jobs::job(py, job)?)?;
        }
        Ok(list)
    }

    /// How the queues stand, by their names.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = wait(py, Patience::Cancellable, |done| self.store.stats(done))?;
        let all = PyDict::new(py);
        for queue in &stats.queues {
            let dict = PyDict::new(py);
            for (index, name) in status_names() {
                dict.set_item(name, queue.jobs.get(index).copied().unwrap_or_default())?;
            }
            dict.set_item("oldest", queue.oldest)?;
            dict.set_item("total_succeeded", queue.succeeded)?;
            dict.set_item("total_failed", queue.failed)?;
            convert::settings(py, &queue.settings, &dict)?;
            all.set_item(&queue.queue, dict)?;
        }
        Ok(all)
    }

    /// Pruned jobs, those that finished last first.
    #[pyo3(signature = (limit, /))]
    fn log<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let entries = wait(py, Patience::Cancellable, |done| self.store.log(limit, done))?;
        let list = PyList::empty(py);
        for entry in &entries {
            list.append(jobs::log_entry(py, entry)?)?;
        }
        Ok(list)
    }

    /// Delete jobs that do not run; return how many there were.
    #[pyo3(signature = (filter=None, /))]
    fn purge(&self, py: Python<'_>, filter: Option<&Bound<'_, PyDict>>) -> PyResult<u64> {
        let filter = convert::filter(filter)?;
        let purged = wait(py, Patience::Cancellable, |done| self.store.purge(filter, done))?;
        Ok(purged.jobs)
    }

    /// Move finished jobs whose time is over to the log; return how many there were.
    fn prune(&self, py: Python<'_>) -> PyResult<u64> {
        let pruned = wait(py, Patience::Cancellable, |done| self.store.prune(done))?;
        Ok(pruned.jobs)
    }

    /// Enqueue the job of a schedule's tick: how it went and the job's id, or past and the last tick.
    #[pyo3(signature = (name, at, job, /))]
    fn tick<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        at: i64,
        job: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let job = jobs::new_job(job)?;
        let outcome = wait(py, Patience::Cancellable, |done| {
            self.store.tick(name, at, job, done);
        })?;
        match outcome {
            TickOutcome::Enqueued(enqueued) => Ok(jobs::enqueued(enqueued).into_pyobject(py)?.into_any()),
            TickOutcome::Past(last) => Ok(("past", last).into_pyobject(py)?.into_any()),
        }
    }

    /// The last tick of every schedule, by its name.
    fn ticks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let ticks = wait(py, Patience::Cancellable, |done| self.store.ticks(done))?;
        let dict = PyDict::new(py);
        for tick in &ticks {
            dict.set_item(&tick.name, tick.at)?;
        }
        Ok(dict)
    }

    /// Keep a value with a key for so many milliseconds; None if the key is new, else the value it has.
    #[pyo3(signature = (key, value, keep, /))]
    fn once<'py>(
        &self,
        py: Python<'py>,
        key: &str,
        value: &Bound<'py, PyBytes>,
        keep: i64,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let value = value.as_bytes().to_vec();
        let once = wait(py, Patience::Cancellable, |done| {
            self.store.once(key, value, keep, done);
        })?;
        Ok(match once {
            Once::First => None,
            Once::Before(before) => Some(PyBytes::new(py, &before)),
        })
    }

    /// The value of a key, or None.
    #[pyo3(signature = (key, /))]
    fn once_value<'py>(&self, py: Python<'py>, key: &str) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let value = wait(py, Patience::Cancellable, |done| {
            self.store.once_value(key, done);
        })?;
        Ok(convert::bytes(py, value.as_deref()))
    }

    /// Set a rate limit: count, period in milliseconds, burst; with None lift it.
    #[pyo3(signature = (name, rate, /))]
    fn set_rate(&self, py: Python<'_>, name: &str, rate: Option<(u32, i64, u32)>) -> PyResult<()> {
        let rate = rate.map(convert::rate);
        wait(py, Patience::Cancellable, |done| {
            self.store.set_rate(name, rate, done);
        })
    }

    /// Set what holds for a queue across all processes.
    #[pyo3(signature = (queue, concurrency, paused, /))]
    fn set_queue(&self, py: Python<'_>, queue: &str, concurrency: Option<u32>, paused: bool) -> PyResult<()> {
        let settings = QueueSettings { concurrency, paused };
        wait(py, Patience::Cancellable, |done| {
            self.store.set_queue(queue, settings, done);
        })
    }
}
