//! What an application gave back, on its way to the client.

use super::file::{self, FileWrapper};
use super::names::Names;
use super::writer::{Failure, Fault, Writer, Wrote, bytes_of};
use crate::native;
use bytes::{Bytes, BytesMut};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

/// Lists of chunks up to this many bytes in all are sent as one body.
const JOINED: usize = 64 << 10;

/// Sends what the application gave back, and closes it.
pub(crate) fn respond(py: Python<'_>, writer: &Writer, body: &Bound<'_, PyAny>) -> Result<(), Failure> {
    if let Some(bytes) = whole(writer, body) {
        // Neither a list nor a tuple has a `close`.
        return writer.whole(bytes).map(drop);
    }
    let sent = send(py, writer, body);
    let closed = close(body);
    let wrote = sent?;
    if let Wrote::Excess = wrote {
        // What was promised has been sent, so the client is none the wiser.
        writer.finish()?;
        closed?;
        return Err(Failure::Fault(Fault(
            "the body is longer than its Content-Length; the rest was not sent".to_owned(),
        )));
    }
    if wrote == Wrote::Open {
        writer.finish()?;
    }
    closed?;
    Ok(())
}

/// The whole body, if it is a list or a tuple of few bytes and nothing of it has been sent.
fn whole(writer: &Writer, body: &Bound<'_, PyAny>) -> Option<Bytes> {
    let bytes = if let Ok(list) = body.cast_exact::<PyList>() {
        match list.len() {
            1 => bytes_of(list.get_item(0).ok()?.cast::<PyBytes>().ok()?),
            _ => joined(&list.to_tuple())?,
        }
    } else if let Ok(tuple) = body.cast_exact::<PyTuple>() {
        match tuple.len() {
            1 => bytes_of(tuple.get_item(0).ok()?.cast::<PyBytes>().ok()?),
            _ => joined(tuple)?,
        }
    } else {
        return None;
    };
    (!writer.has_begun() && writer.announced().is_some()).then_some(bytes)
}

fn joined(chunks: &Bound<'_, PyTuple>) -> Option<Bytes> {
    let mut all = BytesMut::new();
    for chunk in chunks.iter_borrowed() {
        let chunk = chunk.cast::<PyBytes>().ok()?;
        let chunk = chunk.as_bytes();
        if all.len() + chunk.len() > JOINED {
            return None;
        }
        all.extend_from_slice(chunk);
    }
    Some(all.freeze())
}

fn send(py: Python<'_>, writer: &Writer, body: &Bound<'_, PyAny>) -> Result<Wrote, Failure> {
    if let Ok(wrapper) = body.cast_exact::<FileWrapper>() {
        return file::send(py, writer, wrapper.get());
    }
    let iterator = body.try_iter().map_err(|error| {
        if error.is_instance_of::<pyo3::exceptions::PyTypeError>(py) {
            drop(native::exception(py, error));
            let kind = body
                .get_type()
                .name()
                .map_or_else(|_| "?".to_owned(), |name| name.to_string());
            return Failure::Fault(Fault(format!(
                "it must return an iterable of bytes, and returned {kind}"
            )));
        }
        Failure::Raised(error)
    })?;
    while let Some(chunk) = native::next(&iterator)? {
        let Ok(chunk) = chunk.cast::<PyBytes>() else {
            let kind = chunk
                .get_type()
                .name()
                .map_or_else(|_| "?".to_owned(), |name| name.to_string());
            return Err(Failure::Fault(Fault(format!(
                "its body must be of bytes, and has {kind}"
            ))));
        };
        if chunk.as_bytes().is_empty() {
            continue;
        }
        match writer.write(py, chunk)? {
            Wrote::Open => {}
            other => return Ok(other),
        }
    }
    Ok(Wrote::Open)
}

/// Calls what was given back's `close`, if it has one.
fn close(body: &Bound<'_, PyAny>) -> PyResult<()> {
    if body.is_exact_instance_of::<PyList>() || body.is_exact_instance_of::<PyTuple>() {
        return Ok(());
    }
    match body.getattr_opt(Names::get().close.bind(body.py()))? {
        Some(close) => native::invoke(&close, []).map(drop),
        None => Ok(()),
    }
}
