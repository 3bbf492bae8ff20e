//! Jobs, and how attempts end, from and to Python.

use super::convert::{bytes, id};
use super::errors::from_store;
use super::store::Attempt;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use roving_store::{Ack, Enqueued, Error, Job, JobId, LogEntry, NewJob, Outcome, Unique};

/// A job to be enqueued, of a dict; what is left out is as `NewJob::new` has it.
pub(super) fn new_job(dict: &Bound<'_, PyDict>) -> PyResult<NewJob> {
    let mut job = NewJob::new("", "", Vec::new());
    for (name, value) in dict.iter() {
        let name: PyResult<&str> = name.extract();
        match name? {
            "id" => job.id = id(value.extract()?)?,
            "task" => job.task = value.extract()?,
            "queue" => job.queue = value.extract()?,
            "priority" => job.priority = value.extract()?,
            "payload" => job.payload = payload(&value)?,
            "codec" => job.codec = value.extract()?,
            "format" => job.format = value.extract()?,
            "eta" => job.eta = value.extract()?,
            "expires" => job.expires = value.extract()?,
            "max_attempts" => job.max_attempts = value.extract()?,
            "unique" => {
                let unique: Option<(String, bool)> = value.extract()?;
                job.unique = unique.map(|(key, until_started)| Unique { key, until_started });
            }
            "limit" => job.limit = value.extract()?,
            "parent" => job.parent = optional_id(&value)?,
            "group" => job.group = optional_id(&value)?,
            "waits_for" => job.waits_for = optional_id(&value)?,
            "keep" => job.keep = value.extract()?,
            other => return Err(PyTypeError::new_err(format!("a job has no {other}"))),
        }
    }
    Ok(job)
}

fn payload(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    Ok(value.cast::<PyBytes>()?.as_bytes().to_vec())
}

fn optional_id(value: &Bound<'_, PyAny>) -> PyResult<Option<JobId>> {
    let text: Option<&str> = value.extract()?;
    text.map(id).transpose()
}

/// Jobs to be enqueued, of a list of dicts.
pub(super) fn new_jobs(list: &Bound<'_, PyAny>) -> PyResult<Vec<NewJob>> {
    list.try_iter()?.map(|job| new_job(job?.cast()?)).collect()
}

/// What came of an enqueue: new, known or duplicate, and an id.
pub(super) fn enqueued(enqueued: Enqueued) -> (&'static str, String) {
    match enqueued {
        Enqueued::New(id) => ("new", id.to_string()),
        Enqueued::Known(id) => ("known", id.to_string()),
        Enqueued::Duplicate(id) => ("duplicate", id.to_string()),
    }
}

/// What came of each of several: a value, or the exception that says why not.
pub(super) fn each<'py, T>(
    py: Python<'py>,
    outcomes: Vec<Result<T, Error>>,
    value: impl Fn(Python<'py>, T) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for outcome in outcomes {
        match outcome {
            Ok(found) => list.append(value(py, found)?)?,
            Err(error) => list.append(from_store(py, &error).into_value(py))?,
        }
    }
    Ok(list)
}

/// A job, as a dict.
pub(super) fn job<'py>(py: Python<'py>, job: &Job) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let text = |id: &Option<JobId>| id.as_ref().map(JobId::to_string);
    let unique = job.unique.as_ref();
    let unique = unique.map(|unique| (unique.key.as_str(), unique.until_started));
    dict.set_item(intern!(py, "id"), job.id.to_string())?;
    dict.set_item(intern!(py, "status"), job.status.as_str())?;
    dict.set_item(intern!(py, "task"), &job.task)?;
    dict.set_item(intern!(py, "queue"), &job.queue)?;
    dict.set_item(intern!(py, "priority"), job.priority)?;
    dict.set_item(intern!(py, "payload"), PyBytes::new(py, &job.payload))?;
    dict.set_item(intern!(py, "codec"), &job.codec)?;
    dict.set_item(intern!(py, "format"), job.format)?;
    dict.set_item(intern!(py, "eta"), job.eta)?;
    dict.set_item(intern!(py, "expires"), job.expires)?;
    dict.set_item(intern!(py, "attempts"), job.attempts)?;
    dict.set_item(intern!(py, "max_attempts"), job.max_attempts)?;
    dict.set_item(intern!(py, "deaths"), job.deaths)?;
    dict.set_item(intern!(py, "unique"), unique)?;
    dict.set_item(intern!(py, "limit"), &job.limit)?;
    dict.set_item(intern!(py, "parent"), text(&job.parent))?;
    dict.set_item(intern!(py, "group"), text(&job.group))?;
    dict.set_item(intern!(py, "waits_for"), text(&job.waits_for))?;
    dict.set_item(intern!(py, "keep"), job.keep)?;
    dict.set_item(intern!(py, "worker"), job.worker.map(|worker| worker.0))?;
    dict.set_item(intern!(py, "cancel_requested"), job.cancel_requested)?;
    dict.set_item(intern!(py, "enqueued_at"), job.enqueued_at)?;
    dict.set_item(intern!(py, "started_at"), job.started_at)?;
    dict.set_item(intern!(py, "finished_at"), job.finished_at)?;
    dict.set_item(intern!(py, "result"), bytes(py, job.result.as_deref()))?;
    dict.set_item(intern!(py, "error"), &job.error)?;
    dict.set_item(intern!(py, "traceback"), &job.traceback)?;
    Ok(dict)
}

/// What remains of a pruned job, as a dict.
pub(super) fn log_entry<'py>(py: Python<'py>, entry: &LogEntry) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("id", entry.id.to_string())?;
    dict.set_item("task", &entry.task)?;
    dict.set_item("queue", &entry.queue)?;
    dict.set_item("status", entry.status.as_str())?;
    dict.set_item("attempts", entry.attempts)?;
    dict.set_item("enqueued_at", entry.enqueued_at)?;
    dict.set_item("started_at", entry.started_at)?;
    dict.set_item("finished_at", entry.finished_at)?;
    Ok(dict)
}

/// An acknowledgement: an attempt, a tuple that begins with how it ended, and a list of jobs to be enqueued with it.
pub(super) fn ack(
    attempt: &Bound<'_, Attempt>,
    outcome: &Bound<'_, PyTuple>,
    then: Option<&Bound<'_, PyAny>>,
) -> PyResult<Ack> {
    Ok(Ack {
        attempt: attempt.get().attempt,
        outcome: self::outcome(outcome)?,
        then: then.map_or_else(|| Ok(Vec::new()), new_jobs)?,
    })
}

fn outcome(tuple: &Bound<'_, PyTuple>) -> PyResult<Outcome> {
    let kind: String = tuple.get_item(0)?.extract()?;
    Ok(match kind.as_str() {
        "succeeded" => {
            let result: Option<Bound<'_, PyBytes>> = tuple.get_item(1)?.extract()?;
            Outcome::Succeeded {
                result: result.map(|result| result.as_bytes().to_vec()),
            }
        }
        "failed" => Outcome::Failed {
            error: tuple.get_item(1)?.extract()?,
            traceback: tuple.get_item(2)?.extract()?,
        },
        "retry" => Outcome::Retry {
            error: tuple.get_item(1)?.extract()?,
            traceback: tuple.get_item(2)?.extract()?,
            at: tuple.get_item(3)?.extract()?,
        },
        "hand_back" => Outcome::HandBack,
        "cancelled" => Outcome::Cancelled,
        other => return Err(PyValueError::new_err(format!("an attempt does not end {other}"))),
    })
}
