//! `start_response`: what an application may say at the head of its response.

use super::writer::Writer;
use crate::errors::{RovingInternalError, raise_again};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};
use roving_http::{Head, ReasonPhrase};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The words after a status, where they are not the usual ones.
fn reason(status: StatusCode, words: &str) -> Option<ReasonPhrase> {
    if words.is_empty() || status.canonical_reason() == Some(words) {
        return None;
    }
    ReasonPhrase::try_from(words.as_bytes().to_vec()).ok()
}

/// A checked head, with what concerns the body taken from its fields.
pub(crate) struct Prepared {
    pub(crate) head: Head,
    pub(crate) length: Option<u64>,
    /// Whether the application wants the connection closed.
    pub(crate) close: bool,
}

/// Checks what an application calls `start_response` with.
pub(crate) fn prepare(status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<Prepared> {
    let status = status
        .cast::<PyString>()
        .map_err(|_| wrong_type("the status", "a str", status))?;
    let (status, reason) = parse_status(status.to_str()?)?;
    let mut prepared = Prepared {
        head: Head {
            status,
            reason,
            headers: HeaderMap::new(),
        },
        length: None,
        close: false,
    };
    let headers = headers
        .cast::<PyList>()
        .map_err(|_| wrong_type("the headers", "a list", headers))?;
    for item in headers.iter() {
        let pair = item
            .cast::<PyTuple>()
            .map_err(|_| wrong_type("a header", "a tuple of two str", &item))?;
        if pair.len() != 2 {
            return Err(PyValueError::new_err(format!(
                "a header is a tuple of two str, and this has {} items",
                pair.len()
            )));
        }
        add(&mut prepared, &pair.get_item(0)?, &pair.get_item(1)?)?;
    }
    Ok(prepared)
}

fn wrong_type(what: &str, wanted: &str, found: &Bound<'_, PyAny>) -> PyErr {
    let kind = found
        .get_type()
        .name()
        .map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!(
        "{what} given to start_response must be {wanted}, not {kind}"
    ))
}

fn parse_status(text: &str) -> PyResult<(StatusCode, Option<ReasonPhrase>)> {
    let wrong = || {
        PyValueError::new_err(format!(
            "the status given to start_response must be three digits, a space and a reason, and is {text:?}"
        ))
    };
    let (code, words) = match text.split_once(' ') {
        Some((code, words)) => (code, words),
        None => (text, ""),
    };
    if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    if !words
        .bytes()
        .all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
    {
        return Err(wrong());
    }
    let status = StatusCode::from_bytes(code.as_bytes()).map_err(|_| wrong())?;
    if status.is_informational() {
        return Err(PyValueError::new_err(format!(
            "the status given to start_response must be a final one, and is {text:?}"
        )));
    }
    Ok((status, reason(status, words)))
}

/// Fields that are between the client and the server: an application has no say in them, but in closing.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

fn add(prepared: &mut Prepared, name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let name_text = name
        .cast::<PyString>()
        .map_err(|_| wrong_type("a header's name", "a str", name))?
        .to_str()?;
    let value_text = value
        .cast::<PyString>()
        .map_err(|_| wrong_type("a header's value", "a str", value))?;
    let name = HeaderName::from_bytes(name_text.as_bytes()).map_err(|_| {
        PyValueError::new_err(format!(
            "start_response was given {name_text:?} as a header's name"
        ))
    })?;
    let value = header_value(value_text).ok_or_else(|| {
        let shown = value_text.repr().map_or_else(|_| String::new(), |text| text.to_string());
        PyValueError::new_err(format!(
            "start_response was given {shown} as the value of {name_text:?}: only printable characters of Latin-1 are \
             allowed, and no line breaks"
        ))
    })?;
    if name == header::CONTENT_LENGTH {
        let length = value
            .to_str()
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u64>().ok());
        let length = length.ok_or_else(|| {
            PyValueError::new_err(format!(
                "start_response was given {value:?} as Content-Length, which is no number"
            ))
        })?;
        if prepared.length.is_some_and(|before| before != length) {
            return Err(PyValueError::new_err(
                "start_response was given two different values of Content-Length",
            ));
        }
        prepared.length = Some(length);
        return Ok(());
    }
    if name == header::CONNECTION {
        let mut options = value.as_bytes().split(|byte| *byte == b',');
        prepared.close |= options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
        return Ok(());
    }
    if HOP_BY_HOP.contains(&name) || name == "keep-alive" {
        return Ok(());
    }
    prepared.head.headers.append(name, value);
    Ok(())
}

fn header_value(text: &Bound<'_, PyString>) -> Option<HeaderValue> {
    // Most are ASCII.
    let text = text.to_str().ok()?;
    let value = if text.is_ascii() {
        HeaderValue::from_str(text.trim_matches([' ', '\t'])).ok()?
    } else {
        let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        HeaderValue::from_maybe_shared(bytes::Bytes::from(bytes?)).ok()?
    };
    Some(value)
}

/// A table that CPython keeps pointers into, and does not write to.
#[repr(transparent)]
struct Method(ffi::PyMethodDef);

// SAFETY: it holds pointers to statics, and nobody writes it.
unsafe impl Sync for Method {}

static METHOD: Method = Method(ffi::PyMethodDef {
    ml_name: c"start_response".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer {
        PyCFunctionFastWithKeywords: start_response,
    },
    ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
    ml_doc: c"start_response(status, headers, exc_info=None, /)\n--\n\n\
        Begin the response: a status line such as \"200 OK\", and a list of (name, value) tuples.\n\n\
        Returns a callable that takes bytes and sends them: use it only where an iterable will not do. Raises ValueError\n\
        and TypeError for what is no head of a response, AssertionError when called again without exc_info, and what is in\n\
        exc_info when the head has been sent already."
        .as_ptr(),
});

/// The `start_response` of a response.
pub(crate) fn callable<'py>(writer: &Bound<'py, Writer>) -> PyResult<Bound<'py, PyAny>> {
    let method = (&raw const METHOD.0).cast_mut();
    // SAFETY: attached; the table is static, and the function counts a reference to the writer.
    let function = unsafe { ffi::PyCFunction_NewEx(method, writer.as_ptr(), std::ptr::null_mut()) };
    // SAFETY: an owned reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(writer.py(), function) }
}

unsafe extern "C" fn start_response(
    writer: *mut PyObject,
    args: *const *mut PyObject,
    count: ffi::Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this attached.
    let py = unsafe { Python::assume_attached() };
    let called = catch_unwind(AssertUnwindSafe(|| {
        let mut all = [None, None, None];
        for (index, place) in all.iter_mut().enumerate().take(count as usize) {
            // SAFETY: there are `count` arguments.
            let argument = unsafe { args.add(index) };
            // SAFETY: one of them.
            let argument = unsafe { *argument };
            // SAFETY: live during the call.
            *place = Some(unsafe { Bound::from_borrowed_ptr(py, argument) });
        }
        // SAFETY: null or a live tuple.
        if let Some(names) = unsafe { Bound::from_borrowed_ptr_or_opt(py, names) } {
            for (index, name) in names.cast::<PyTuple>()?.iter().enumerate() {
                if count as usize + index >= 3 || name.extract::<&str>().ok() != Some("exc_info") {
                    return Err(PyTypeError::new_err(format!(
                        "start_response has no argument {name} to be given by name"
                    )));
                }
                // SAFETY: behind the arguments there is one for each name.
                let argument = unsafe { args.add(count as usize + index) };
                // SAFETY: one of them.
                let argument = unsafe { *argument };
                // SAFETY: live during the call.
                all[2] = Some(unsafe { Bound::from_borrowed_ptr(py, argument) });
            }
        }
        let [Some(status), Some(headers), exc_info] = all else {
            return Err(PyTypeError::new_err(
                "start_response takes a status and a list of headers",
            ));
        };
        if count > 3 {
            return Err(PyTypeError::new_err(format!(
                "start_response takes at most 3 arguments ({count} given)"
            )));
        }
        // SAFETY: the function was made with a writer, which lives during the call.
        let writer = unsafe { Bound::from_borrowed_ptr(py, writer) };
        // SAFETY: as above.
        let writer = unsafe { writer.cast_into_unchecked::<Writer>() };
        begin(
            &writer,
            &status,
            &headers,
            exc_info.filter(|info| !info.is_none()),
        )?;
        Ok(writer.into_ptr())
    }));
    match called {
        Ok(Ok(object)) => object,
        Ok(Err(error)) => {
            error.restore(py);
            std::ptr::null_mut()
        }
        Err(_) => {
            RovingInternalError::new_err("a panic: stderr has the message").restore(py);
            std::ptr::null_mut()
        }
    }
}

fn begin(
    writer: &Bound<'_, Writer>,
    status: &Bound<'_, PyAny>,
    headers: &Bound<'_, PyAny>,
    exc_info: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let this = writer.get();
    if let Some(info) = exc_info {
        if this.has_begun() {
            // What has been sent cannot be taken back: the error goes on its way.
            let exception = info.get_item(1)?;
            return Err(raise_again(&exception));
        }
        return this.set_head(prepare(status, headers)?, true);
    }
    this.set_head(prepare(status, headers)?, false)
}
