//! The fiber of a request.

use super::access::{Entry, Log};
use super::environ::{self, Common};
use super::input::Input;
use super::locals::Pool;
use super::malformed::Malformed;
use super::names::Names;
use super::respond::respond;
use super::start;
use super::writer::{Failure, Fault, Writer};
use crate::errors::Cancelled;
use crate::fiber::Fiber;
use crate::held::Held;
use crate::{fork, native, shim};
use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
use roving_http::{Application, Endpoint, Exchange, Origin, Proxies};
use roving_runtime::Handle;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A WSGI application, and what its requests have in common.
pub(crate) struct Wsgi {
    pub(crate) callable: Held,
    pub(crate) common: Common,
    /// Is told of requests that failed: with the request's first line, and an exception or a text.
    pub(crate) report: Held,
    /// Is told of all requests.
    pub(crate) access: Option<Log>,
    /// Who is believed about where requests come from.
    pub(crate) proxies: Option<Proxies>,
    /// Is told of fields of theirs that were ignored.
    pub(crate) ignored: Option<Malformed>,
    /// Is told of requests that were refused before they were any.
    pub(crate) malformed: Option<Arc<Malformed>>,
    /// Thread-locals that outlive requests, if they do.
    pub(crate) locals: Option<Pool>,
    /// Whether fibers are cancelled whose clients have gone.
    pub(crate) cancel: bool,
}

/// The interface to connections.
pub(crate) struct Spawner(pub(crate) Arc<Wsgi>);

impl Application for Spawner {
    fn call(&self, handle: &Handle, exchange: Exchange) {
        let wsgi = self.0.clone();
        let number = wsgi.common.number;
        // Refused only while the runtime shuts down; the exchange is dropped then, which answers it.
        let _ = native::spawn(handle, number, move |py| serve(py, &wsgi, exchange));
    }

    fn refused(&self, endpoint: &Endpoint, why: &dyn Display) {
        if let Some(malformed) = &self.0.malformed {
            malformed.note(self.0.common.number, endpoint, why);
        }
    }
}

/// Answers a request, on the stack of its fiber. Never panics.
fn serve(py: Python<'_>, wsgi: &Wsgi, exchange: Exchange) {
    if let Some(locals) = &wsgi.locals {
        locals.lend();
    }
    let served = catch_unwind(AssertUnwindSafe(|| answer(py, wsgi, exchange)));
    if served.is_err() {
        // The hook has written its message, and dropping the exchange has answered.
        report(
            py,
            wsgi,
            "?",
            PyString::new(py, "a panic in roving: stderr has the message").as_any(),
        );
    }
    // Last: what the request has had is gone by now.
    if let Some(locals) = &wsgi.locals {
        locals.take_back();
    }
}

fn answer(py: Python<'_>, wsgi: &Wsgi, exchange: Exchange) {
    let Exchange {
        request,
        body,
        responder,
        endpoint,
        permit,
    } = exchange;
    let head_only = request.method == http::Method::HEAD;
    let origin = origin(py, wsgi, &request, &endpoint);
    let origin = origin.as_ref();
    let keeps = wsgi
        .access
        .as_ref()
        .is_some_and(|log| log.format.wants_response());
    let made = Bound::new(py, Writer::new(responder, head_only, keeps)).and_then(|writer| {
        let input = Bound::new(py, Input::new(body))?;
        let environ = environ::build(py, &wsgi.common, &request, &endpoint, origin, input.as_any())?;
        let start_response = start::callable(&writer)?;
        Ok((writer, input, environ, start_response))
    });
    let log = wsgi.access.as_ref();
    let entry = log.map(|log| Entry::new(log, &request, &endpoint, origin));
    // It holds parts of what the connection read, which it reads into again once nobody does.
    drop((request, endpoint));
    let (writer, input, environ, start_response) = match made {
        Ok(made) => made,
        Err(error) => {
            let error = native::exception(py, error);
            report(py, wsgi, "?", error.as_any());
            return;
        }
    };
    if wsgi.cancel {
        cancel_when_gone(&writer);
    }
    let called = native::invoke(wsgi.callable.bind(py), [&environ, &start_response]);
    if fork::is_orphan() {
        fork::finish(Ok(py.None().into_ptr()));
    }
    let answered = match called {
        Ok(iterable) => respond(py, writer.get(), &iterable),
        Err(error) => Err(Failure::Raised(error)),
    };
    if let Err(failure) = answered {
        failed(py, wsgi, &writer, &environ, failure);
    }
    if let Some(entry) = entry
        && let Err(error) = entry.log(py, wsgi, writer.get(), &environ)
    {
        unraisable(py, error);
    }
    writer.get().close();
    input.get().close();
    drop(permit);
}

/// What trusted proxies say of a request.
fn origin(
    py: Python<'_>,
    wsgi: &Wsgi,
    request: &http::request::Parts,
    endpoint: &Endpoint,
) -> Option<Origin> {
    let (origin, bad) = wsgi.proxies.as_ref()?.resolve(&request.headers, endpoint)?;
    for field in bad {
        if let Some(ignored) = &wsgi.ignored
            && let Err(error) = ignored.tell(py, &endpoint.remote_host, &field.to_string())
        {
            unraisable(py, error);
        }
    }
    Some(origin)
}

/// Ends a response that failed, and reports why.
fn failed(
    py: Python<'_>,
    wsgi: &Wsgi,
    writer: &Bound<'_, Writer>,
    environ: &Bound<'_, PyAny>,
    failure: Failure,
) {
    writer.get().fail();
    let what = environ::describe(environ);
    match failure {
        Failure::Fault(Fault(text)) => report(py, wsgi, &what, PyString::new(py, &text).as_any()),
        Failure::Raised(error) => {
            let error = native::exception(py, error);
            if !error.is_instance_of::<Cancelled>() {
                report(py, wsgi, &what, error.as_any());
            }
        }
    }
}

fn report(py: Python<'_>, wsgi: &Wsgi, what: &str, why: &Bound<'_, PyAny>) {
    let what = PyString::new(py, what);
    let reported = native::invoke(wsgi.report.bind(py), [what.as_any(), why]);
    if let Err(error) = reported {
        unraisable(py, error);
    }
}

/// Shows an exception that nobody is there to have.
fn unraisable(py: Python<'_>, error: PyErr) {
    let error: Bound<'_, PyBaseException> = native::exception(py, error);
    // SAFETY: attached; an exception.
    unsafe { ffi::PyErr_SetRaisedException(error.into_ptr()) };
    // SAFETY: attached, with an exception set.
    unsafe { ffi::PyErr_WriteUnraisable(std::ptr::null_mut()) };
}

/// Has this fiber cancelled when the client goes.
fn cancel_when_gone(writer: &Bound<'_, Writer>) {
    let Some(object) = shim::current_object() else {
        return;
    };
    // SAFETY: attached; the running fiber's object is live.
    let held = unsafe { Held::from_borrowed(object) };
    writer.get().on_gone(move || {
        // SAFETY: a `Fiber`, which the reference keeps alive. Cancelling calls nothing of Python's.
        unsafe { Fiber::of(held.as_ptr()) }.cancel();
    });
}

/// Makes what all requests need. Attached, and where waiting is allowed.
pub(crate) fn prepare(py: Python<'_>) {
    Names::prepare(py);
}
