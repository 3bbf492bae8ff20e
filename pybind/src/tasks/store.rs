//! The store's calls that jobs go through.

use super::call::{Patience, detached, wait};
use super::convert::id;
use super::errors::StoreError;
use super::jobs;
use super::manage::Admin;
use super::watch::{Finishes, Watch};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use roving_store::{
    Cancelled, Claim, Clock, Job, MemoryOptions, MemoryStore, SqliteOptions, Status, Store, SystemClock,
    WorkerId,
};
use std::sync::Arc;
use std::time::Duration;

/// A store of jobs. `roving.tasks` makes it, and is its user.
#[pyclass(frozen, module = "roving", name = "_JobStore")]
pub(crate) struct JobStore {
    /// None only while it is dropped.
    store: Option<Arc<dyn Store>>,
    clock: Arc<dyn Clock>,
    url: String,
    finishes: Arc<Finishes>,
}

/// One execution of a job: what an acknowledgement names.
#[pyclass(frozen, module = "roving", name = "_Attempt")]
pub(crate) struct Attempt {
    pub(super) attempt: roving_store::Attempt,
}

#[pymethods]
impl Attempt {
    /// The job's id.
    #[getter]
    fn job(&self) -> String {
        self.attempt.job.to_string()
    }

    /// The how manyth claim of the job it is.
    #[getter]
    fn number(&self) -> u32 {
        self.attempt.number
    }
}

/// A clock for tests of jobs, which moves when it is told to.
#[pyclass(frozen, module = "roving", name = "_ManualClock")]
pub(crate) struct ManualClock {
    clock: Arc<roving_store::ManualClock>,
}

#[pymethods]
impl ManualClock {
    /// A clock at so many milliseconds since 1970.
    #[new]
    #[pyo3(signature = (wall, /))]
    fn new(wall: i64) -> Self {
        Self {
            clock: Arc::new(roving_store::ManualClock::new(wall)),
        }
    }

    /// Let so many milliseconds pass.
    #[pyo3(signature = (milliseconds, /))]
    fn advance(&self, milliseconds: i64) {
        self.clock.advance(milliseconds);
    }

    /// What time it is, in milliseconds since 1970.
    fn now(&self) -> i64 {
        self.clock.wall()
    }
}

/// What can be set of a store.
struct Options {
    clock: Arc<dyn Clock>,
    max_deaths: Option<u32>,
    max_payload: Option<usize>,
    keep_failed: Option<Duration>,
    busy_timeout: Option<Duration>,
}

fn options(given: Option<&Bound<'_, PyDict>>) -> PyResult<Options> {
    let mut options = Options {
        clock: Arc::new(SystemClock),
        max_deaths: None,
        max_payload: None,
        keep_failed: None,
        busy_timeout: None,
    };
    for (name, value) in given.into_iter().flat_map(PyDictMethods::iter) {
        let name: String = name.extract()?;
        let seconds = || crate::timeout::duration(value.extract()?, &name);
        match name.as_str() {
            "clock" => {
                options.clock = Arc::clone(&value.cast::<ManualClock>()?.get().clock) as Arc<dyn Clock>;
            }
            "max_deaths" => options.max_deaths = Some(value.extract()?),
            "max_payload" => options.max_payload = Some(value.extract()?),
            "keep_failed" => options.keep_failed = seconds()?,
            "busy_timeout" => options.busy_timeout = seconds()?,
            _ => return Err(PyTypeError::new_err(format!("a job store has no option {name}"))),
        }
    }
    Ok(options)
}

fn open(py: Python<'_>, url: &str, options: Options) -> PyResult<Arc<dyn Store>> {
    if url == "memory:" {
        let mut memory = MemoryOptions {
            clock: options.clock,
            keep_failed: options.keep_failed,
            ..MemoryOptions::default()
        };
        memory.max_deaths = options.max_deaths.unwrap_or(memory.max_deaths);
        memory.max_payload = options.max_payload.unwrap_or(memory.max_payload);
        return Ok(Arc::new(MemoryStore::new(memory)));
    }
    if url.starts_with("postgresql:") || url.starts_with("postgres:") {
        return Err(PyValueError::new_err(
            "there is no job store in PostgreSQL yet: sqlite:PATH serves the processes of one machine",
        ));
    }
    let path = url.strip_prefix("sqlite:").unwrap_or_default();
    // As others write it: sqlite:///jobs.db is a relative path, sqlite:////srv/jobs.db an absolute one.
    let path = path.strip_prefix("///").unwrap_or(path);
    if path.is_empty() || path.starts_with("//") {
        return Err(PyValueError::new_err(format!(
            "{url:?} is no job store: sqlite:PATH or memory: is wanted"
        )));
    }
    let mut sqlite = SqliteOptions::new(path)
        .clock(options.clock)
        .keep_failed(options.keep_failed);
    if let Some(deaths) = options.max_deaths {
        sqlite = sqlite.max_deaths(deaths);
    }
    if let Some(bytes) = options.max_payload {
        sqlite = sqlite.max_payload(bytes);
    }
    if let Some(timeout) = options.busy_timeout {
        sqlite = sqlite.busy_timeout(timeout);
    }
    let store = detached(py, || sqlite.open())?;
    Ok(Arc::new(store))
}

impl JobStore {
    fn store(&self) -> &Arc<dyn Store> {
        self.store.as_ref().expect("there until it is dropped")
    }
}

impl Drop for JobStore {
    fn drop(&mut self) {
        let Some(store) = self.store.take() else { return };
        self.finishes.end();
        // Closing waits for the store's threads, and here nobody may be kept waiting.
        let closer = std::thread::Builder::new().name("store-close".to_owned());
        let _ = closer.spawn(move || drop(store));
    }
}

#[pymethods]
impl JobStore {
    /// Open a store: sqlite:PATH, made if it is not there, or memory:.
    #[new]
    #[pyo3(signature = (url, options=None, /))]
    fn new(py: Python<'_>, url: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let options = self::options(options)?;
        let clock = Arc::clone(&options.clock);
        Ok(Self {
            store: Some(open(py, url, options)?),
            clock,
            url: url.to_owned(),
            finishes: Arc::default(),
        })
    }

    /// What it was opened by.
    #[getter]
    fn url(&self) -> &str {
        &self.url
    }

    /// What time it is for the store, in milliseconds since 1970.
    fn now(&self) -> i64 {
        self.clock.wall()
    }

    /// Make an id for a job or a group.
    #[staticmethod]
    fn new_id() -> String {
        roving_store::JobId::new().to_string()
    }

    /// Register a worker; return its id.
    #[pyo3(signature = (name, /))]
    fn register(&self, py: Python<'_>, name: &str) -> PyResult<i64> {
        let store = self.store();
        Ok(wait(py, Patience::Regardless, |done| store.register(name, done))?.0)
    }

    /// End a worker; what it still has is handed back.
    #[pyo3(signature = (worker, /))]
    fn retire(&self, py: Python<'_>, worker: i64) -> PyResult<()> {
        let store = self.store();
        wait(py, Patience::Regardless, |done| {
            store.retire(WorkerId(worker), done);
        })
    }

    /// Enqueue jobs, in one commit; return for each how it went and its id, or the exception that says why not.
    #[pyo3(signature = (jobs, /))]
    fn enqueue<'py>(&self, py: Python<'py>, jobs: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let (store, jobs) = (self.store(), jobs::new_jobs(jobs)?);
        let outcomes = wait(py, Patience::Cancellable, |done| store.enqueue(jobs, done))?;
        jobs::each(py, outcomes, |py, enqueued| {
            jobs::enqueued(enqueued).into_pyobject(py).map(Bound::into_any)
        })
    }

    /// Claim jobs for a worker, of these queues (of all, if there are none), at most so many; return each with its attempt.
    #[pyo3(signature = (worker, queues, most, /))]
    fn claim<'py>(
        &self,
        py: Python<'py>,
        worker: i64,
        queues: Vec<String>,
        most: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let store = self.store();
        let claim = Claim {
            worker: WorkerId(worker),
            queues,
            max: most,
        };
        // Come what may: jobs that nobody learns of would be this worker's until it ends.
        let claimed = wait(py, Patience::Regardless, |done| store.claim(claim, done))?;
        let list = PyList::empty(py);
        for claimed in claimed {
            let attempt = Attempt {
                attempt: claimed.attempt,
            };
            list.append((Py::new(py, attempt)?, jobs::job(py, &claimed.job)?))?;
        }
        Ok(list)
    }

    /// Acknowledge an attempt: how it ended, and jobs to be enqueued with it; return the job's status.
    #[pyo3(signature = (attempt, outcome, then=None, /))]
    fn acknowledge(
        &self,
        py: Python<'_>,
        attempt: &Bound<'_, Attempt>,
        outcome: &Bound<'_, PyTuple>,
        then: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<&'static str> {
        let (store, ack) = (self.store(), jobs::ack(attempt, outcome, then)?);
        let statuses = wait(py, Patience::Regardless, |done| {
            store.acknowledge(vec![ack], done);
        })?;
        match statuses.into_iter().next() {
            Some(Ok(status)) => Ok(status.as_str()),
            Some(Err(error)) => Err(super::errors::from_store(py, &error)),
            None => Err(StoreError::new_err(
                "the store said nothing of an acknowledgement",
            )),
        }
    }

    /// Cancel a job: now, requested, or the status it had finished with.
    #[pyo3(signature = (id, /))]
    fn cancel(&self, py: Python<'_>, id: &str) -> PyResult<&'static str> {
        let (store, id) = (self.store(), self::id(id)?);
        let cancelled = wait(py, Patience::Cancellable, |done| store.cancel(id, done))?;
        Ok(match cancelled {
            Cancelled::Now => "now",
            Cancelled::Requested => "requested",
            Cancelled::Finished(status) => status.as_str(),
        })
    }

    /// Queue a finished job again.
    #[pyo3(signature = (id, /))]
    fn retry(&self, py: Python<'_>, id: &str) -> PyResult<()> {
        let (store, id) = (self.store(), self::id(id)?);
        wait(py, Patience::Cancellable, |done| store.retry(id, done))
    }

    /// A job, or None.
    #[pyo3(signature = (id, /))]
    fn get<'py>(&self, py: Python<'py>, id: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        let (store, id) = (self.store(), self::id(id)?);
        let found = wait(py, Patience::Cancellable, |done| store.get(id, done))?;
        found.map(|job| jobs::job(py, &job)).transpose()
    }

    /// Wait until a job is finished, for at most so many seconds; the job as it is then, or None if there is none.
    #[pyo3(signature = (id, timeout=None, /))]
    fn wait<'py>(
        &self,
        py: Python<'py>,
        id: &str,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let (store, id) = (self.store(), self::id(id)?);
        let deadline = crate::timeout::deadline(timeout)?;
        let is_over = |job: &Option<Job>| job.as_ref().is_none_or(|job| job.status.is_finished());
        loop {
            // First, so that nothing happens unnoticed between the look and the wait.
            let waiting = self.finishes.wait_for(store, id);
            let job = wait(py, Patience::Cancellable, |done| store.get(id, done))?;
            if is_over(&job) || !waiting.wait(py, deadline)? {
                return job.map(|job| jobs::job(py, &job)).transpose();
            }
        }
    }

    /// What looks after it.
    fn admin(&self) -> Admin {
        Admin::new(self.store())
    }

    /// Be told of changes; what `wait` gives, see there.
    fn watch(&self) -> Watch {
        Watch::new(self.store())
    }

    /// Finish what was begun, and refuse all calls after that.
    fn close(&self, py: Python<'_>) {
        let store = Arc::clone(self.store());
        py.detach(move || store.close());
        // After it: whoever begins to wait from here on finds it closed, and whoever waits looks again.
        self.finishes.end();
    }

    fn __repr__(&self) -> String {
        format!("<roving._JobStore {:?}>", self.url)
    }
}

/// All names of statuses.
pub(super) fn status_names() -> impl Iterator<Item = (usize, &'static str)> {
    Status::ALL.into_iter().map(|status| {
        let index = usize::try_from(status.number()).unwrap_or(usize::MAX);
        (index, status.as_str())
    })
}
