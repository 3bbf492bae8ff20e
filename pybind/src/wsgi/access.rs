//! What the access log is told of a request.

use super::request::Wsgi;
use super::writer::Writer;
use crate::native;
use http::header::{self, HeaderName};
use http::request::Parts;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyString};
use roving_http::Endpoint;
use std::time::Instant;

/// What is kept of a request until its response has been given.
pub(crate) struct Entry {
    began: Instant,
    host: String,
    line: String,
    referer: String,
    agent: String,
}

impl Entry {
    pub(crate) fn new(request: &Parts, endpoint: &Endpoint) -> Self {
        let field = |name: HeaderName| {
            let value = request.headers.get(name);
            value.map_or_else(String::new, |value| {
                value.as_bytes().iter().map(|byte| char::from(*byte)).collect()
            })
        };
        Self {
            began: Instant::now(),
            host: endpoint.remote_host.clone(),
            line: format!("{} {} {:?}", request.method, request.uri, request.version),
            referer: field(header::REFERER),
            agent: field(header::USER_AGENT),
        }
    }

    /// Tells the log.
    pub(crate) fn log(self, py: Python<'_>, wsgi: &Wsgi, writer: &Writer) -> PyResult<()> {
        let Some(access) = &wsgi.access else { return Ok(()) };
        let (status, bytes) = writer.sent();
        let text = |text: &str| PyString::new(py, text).into_any();
        native::invoke(
            access.bind(py),
            [
                &text(&self.host),
                &text(&self.line),
                PyInt::new(py, status).as_any(),
                PyInt::new(py, bytes).as_any(),
                PyFloat::new(py, self.began.elapsed().as_secs_f64()).as_any(),
                &text(&self.referer),
                &text(&self.agent),
            ],
        )
        .map(drop)
    }
}
