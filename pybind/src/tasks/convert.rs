//! Small things from and to Python.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use roving_store::{Filter, JobId, Page, QueueSettings, Rate, Status, WorkerInfo};

/// An id as Python writes it.
pub(super) fn id(text: &str) -> PyResult<JobId> {
    text.parse()
        .map_err(|error: roving_store::Error| PyValueError::new_err(error.to_string()))
}

fn optional_id(text: Option<&str>) -> PyResult<Option<JobId>> {
    text.map(id).transpose()
}

pub(super) fn bytes<'py>(py: Python<'py>, bytes: Option<&[u8]>) -> Option<Bound<'py, PyBytes>> {
    bytes.map(|bytes| PyBytes::new(py, bytes))
}

/// What picks jobs: statuses, queue, task, group, parent.
pub(super) fn filter(options: Option<&Bound<'_, PyDict>>) -> PyResult<Filter> {
    let mut filter = Filter::default();
    let Some(options) = options else { return Ok(filter) };
    for (name, value) in options.iter() {
        let name: String = name.extract()?;
        match name.as_str() {
            "statuses" => {
                let statuses: Vec<String> = value.extract()?;
                let parsed: Result<Vec<Status>, roving_store::Error> =
                    statuses.iter().map(|status| status.parse()).collect();
                filter.statuses = parsed.map_err(|error| PyValueError::new_err(error.to_string()))?;
            }
            "queue" => filter.queue = value.extract()?,
            "task" => filter.task = value.extract()?,
            "group" => filter.group = optional_id(value.extract()?)?,
            "parent" => filter.parent = optional_id(value.extract()?)?,
            _ => return Err(PyTypeError::new_err(format!("jobs are not picked by {name}"))),
        }
    }
    Ok(filter)
}

/// A part of a list.
pub(super) fn page(after: Option<&str>, limit: usize, newest_first: bool) -> PyResult<Page> {
    Ok(Page {
        after: optional_id(after)?,
        limit,
        newest_first,
    })
}

/// A rate: count, period in milliseconds, burst.
pub(super) fn rate((count, period, burst): (u32, i64, u32)) -> Rate {
    Rate { count, period, burst }
}

pub(super) fn settings<'py>(
    py: Python<'py>,
    settings: &QueueSettings,
    into: &Bound<'py, PyDict>,
) -> PyResult<()> {
    into.set_item(intern!(py, "concurrency"), settings.concurrency)?;
    into.set_item(intern!(py, "paused"), settings.paused)
}

/// A worker that the store knows.
pub(super) fn worker<'py>(py: Python<'py>, info: &WorkerInfo) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("id", info.id.0)?;
    dict.set_item("name", &info.name)?;
    dict.set_item("pid", info.pid)?;
    dict.set_item("since", info.since)?;
    dict.set_item("running", info.running)?;
    Ok(dict)
}
