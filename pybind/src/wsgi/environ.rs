//! The environ of a request.
//!
//! It begins as a copy of a template, which has every key that all of them have: copying a dict costs a fraction of filling
//! one. Each worker has a template of its own, with objects of its own: a dict that is shared is locked while it is copied,
//! and the counts of what it holds would go from core to core.

use super::file::FileWrapper;
use super::names::{self, Names};
use crate::native::exception;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Version, header};
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple};
use roving_http::{Endpoint, Origin};
use std::cell::RefCell;

/// What a server's environs have in common.
pub(crate) struct Common {
    /// Unique in this process.
    pub(crate) number: u32,
    /// Where the application is mounted: nothing, or a path that does not end in a slash.
    pub(crate) root_path: String,
    pub(crate) scheme: &'static str,
    /// Makes `wsgi.errors`.
    pub(crate) errors: Py<PyAny>,
}

thread_local! {
    /// This worker's template, and the number of its server. Leaked when the thread ends: by then it is not attached.
    static TEMPLATE: RefCell<(u32, *mut PyObject)> = const { RefCell::new((0, std::ptr::null_mut())) };
}

fn template<'py>(py: Python<'py>, common: &Common) -> PyResult<Bound<'py, PyAny>> {
    let found = TEMPLATE.with(|template| {
        let template = template.borrow();
        (template.0 == common.number).then_some(template.1)
    });
    if let Some(found) = found {
        // SAFETY: attached; the cell holds a reference, and only this thread takes it out.
        return Ok(unsafe { Bound::from_borrowed_ptr(py, found) });
    }
    // Made with the cell free: this runs Python code, and may park.
    let made = make_template(py, common)?.into_any();
    let ours = made.clone().into_ptr();
    let (_, old) = TEMPLATE.with(|template| template.replace((common.number, ours)));
    // SAFETY: null, or the reference that the cell held.
    drop(unsafe { Bound::from_owned_ptr_or_opt(py, old) });
    Ok(made)
}

fn make_template<'py>(py: Python<'py>, common: &Common) -> PyResult<Bound<'py, PyDict>> {
    let names = Names::get();
    let none = py.None();
    let dict = PyDict::new(py);
    for name in [
        &names.request_method,
        &names.script_name,
        &names.path_info,
        &names.query_string,
        &names.raw_uri,
        &names.request_uri,
        &names.server_protocol,
        &names.server_name,
        &names.server_port,
        &names.remote_addr,
        &names.remote_port,
        &names.input,
    ] {
        dict.set_item(name, &none)?;
    }
    dict.set_item(&names.script_name, PyString::intern(py, &common.root_path))?;
    dict.set_item("wsgi.version", PyTuple::new(py, [1, 0])?)?;
    dict.set_item("wsgi.url_scheme", PyString::intern(py, common.scheme))?;
    let errors = common.errors.bind(py);
    dict.set_item("wsgi.errors", errors.call0()?)?;
    dict.set_item("wsgi.multithread", PyBool::new(py, true))?;
    dict.set_item("wsgi.multiprocess", PyBool::new(py, false))?;
    dict.set_item("wsgi.run_once", PyBool::new(py, false))?;
    dict.set_item("wsgi.file_wrapper", FileWrapper::maker(py)?)?;
    // Its end is the body's, whether its length is known or not.
    dict.set_item("wsgi.input_terminated", PyBool::new(py, true))?;
    dict.set_item("SERVER_SOFTWARE", PyString::intern(py, super::server::SOFTWARE))?;
    if common.scheme == "https" {
        dict.set_item("HTTPS", PyString::intern(py, "on"))?;
    }
    dict.set_item("GATEWAY_INTERFACE", PyString::intern(py, "CGI/1.1"))?;
    Ok(dict)
}

/// A text of bytes that each stand for themselves.
fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; so many bytes.
    let text = unsafe {
        ffi::PyUnicode_DecodeLatin1(
            bytes.as_ptr().cast(),
            bytes.len() as ffi::Py_ssize_t,
            std::ptr::null(),
        )
    };
    // SAFETY: an owned reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, text) }
}

/// A dict that is being filled, and nobody else's.
struct Filling<'py>(Bound<'py, PyAny>);

impl<'py> Filling<'py> {
    fn py(&self) -> Python<'py> {
        self.0.py()
    }

    #[inline]
    fn set(&self, key: *mut PyObject, value: &Bound<'py, PyAny>) -> PyResult<()> {
        // SAFETY: attached; a dict, a live key and a live value.
        match unsafe { ffi::PyDict_SetItem(self.0.as_ptr(), key, value.as_ptr()) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(self.py())),
        }
    }

    #[inline]
    fn set_name(&self, key: &names::Name, value: &names::Name) -> PyResult<()> {
        self.set(key.as_ptr(), value.bind(self.py()))
    }

    #[inline]
    fn set_text(&self, key: &names::Name, value: &[u8]) -> PyResult<()> {
        self.set(key.as_ptr(), &latin1(self.py(), value)?)
    }
}

/// Makes the environ of a request whose body is `input`. `origin`: what trusted proxies say of it.
pub(crate) fn build<'py>(
    py: Python<'py>,
    common: &Common,
    request: &Parts,
    endpoint: &Endpoint,
    origin: Option<&Origin>,
    input: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let names = Names::get();
    let template = template(py, common)?;
    // SAFETY: attached; a dict.
    let copy = unsafe { ffi::PyDict_Copy(template.as_ptr()) };
    // SAFETY: an owned reference, or null with an exception set.
    let environ = Filling(unsafe { Bound::from_owned_ptr_or_err(py, copy) }?);
    match names.method(request.method.as_str()) {
        Some(name) => environ.set_name(&names.request_method, name)?,
        None => environ.set_text(&names.request_method, request.method.as_str().as_bytes())?,
    }
    set_target(&environ, names, common, request)?;
    let protocol = match request.version {
        Version::HTTP_10 => &names.http_1_0,
        Version::HTTP_2 => &names.http_2,
        _ => &names.http_1_1,
    };
    environ.set_name(&names.server_protocol, protocol)?;
    for (name, text) in [
        (&names.server_name, &endpoint.local_host),
        (&names.server_port, &endpoint.local_port),
        (&names.remote_addr, &endpoint.remote_host),
        (&names.remote_port, &endpoint.remote_port),
    ] {
        environ.set_text(name, text.as_bytes())?;
    }
    environ.set(names.input.as_ptr(), input)?;
    if let Some(tls) = &endpoint.tls {
        super::tls::describe(&environ.0, tls)?;
    }
    set_headers(&environ, names, &request.headers)?;
    if let Some(authority) = request.uri.authority() {
        // RFC 9112, 3.2.2: an absolute target counts for more than Host.
        environ.set_text(&names.http_host, authority.as_str().as_bytes())?;
    }
    if let Some(origin) = origin {
        set_origin(&environ, names, origin)?;
    }
    Ok(environ.0)
}

/// Goes by what trusted proxies say.
fn set_origin(environ: &Filling<'_>, names: &Names, origin: &Origin) -> PyResult<()> {
    for (name, text) in [
        (&names.remote_addr, origin.host.as_deref()),
        (&names.remote_port, origin.port.as_deref()),
        (&names.url_scheme, origin.scheme),
        (&names.http_host, origin.authority.as_deref()),
    ] {
        if let Some(text) = text {
            environ.set_text(name, text.as_bytes())?;
        }
    }
    if let Some(prefix) = &origin.prefix {
        // The proxy has taken it off the path; where the application is mounted comes behind it.
        let mounted: String = environ.0.get_item(&names.script_name)?.extract()?;
        environ.set_text(&names.script_name, format!("{prefix}{mounted}").as_bytes())?;
    }
    Ok(())
}

fn set_target(environ: &Filling<'_>, names: &Names, common: &Common, request: &Parts) -> PyResult<()> {
    let py = environ.py();
    let target = request.uri.path_and_query();
    let (whole, path, query) = match target {
        Some(target) => (target.as_str(), target.path(), target.query().unwrap_or("")),
        None => ("", request.uri.path(), ""),
    };
    let whole_text = match whole {
        "/" => names.slash.bind(py).clone().into_any(),
        _ => latin1(py, whole.as_bytes())?,
    };
    environ.set(names.raw_uri.as_ptr(), &whole_text)?;
    environ.set(names.request_uri.as_ptr(), &whole_text)?;
    if query.is_empty() {
        environ.set_name(&names.query_string, &names.empty)?;
    } else {
        environ.set_text(&names.query_string, query.as_bytes())?;
    }
    // RFC 9112, 3.2.4: `*` is the server as a whole, which has no path.
    let path = if path == "*" { "" } else { path };
    let root = &common.root_path;
    if path.contains('%') || !root.is_empty() {
        let decoded = decode(path);
        let below = decoded
            .strip_prefix(root.as_bytes())
            .filter(|rest| rest.is_empty() || rest[0] == b'/');
        if below.is_none() {
            environ.set_name(&names.script_name, &names.empty)?;
        }
        return environ.set_text(&names.path_info, below.unwrap_or(&decoded));
    }
    if path.len() == whole.len() {
        return environ.set(names.path_info.as_ptr(), &whole_text);
    }
    environ.set_text(&names.path_info, path.as_bytes())
}

/// Decodes %XX; what is no such thing stays as it is.
fn decode(path: &str) -> Vec<u8> {
    let bytes = path.as_bytes();
    let digit = |at: usize| {
        bytes
            .get(at)
            .and_then(|byte| char::from(*byte).to_digit(16))
            .map(|digit| digit as u8)
    };
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

fn set_headers(environ: &Filling<'_>, names: &Names, headers: &HeaderMap) -> PyResult<()> {
    let py = environ.py();
    let mut last: Option<&http::HeaderName> = None;
    for (header, value) in headers {
        let again = last.is_some_and(|last| std::ptr::eq(last, header));
        last = Some(header);
        if *header == header::CONTENT_TYPE {
            // Of several the first: they are nothing that could be joined.
            if !again {
                environ.set_text(&names.content_type, value.as_bytes())?;
            }
            continue;
        }
        if *header == header::CONTENT_LENGTH {
            if !again {
                environ.set_text(&names.content_length, value.as_bytes())?;
            }
            continue;
        }
        // The key of `Proxy` is what libraries take for the setting of a proxy, and a name with `_` has the key of another.
        if header.as_str() == "proxy" || header.as_str().contains('_') {
            continue;
        }
        match names.header(header) {
            Some(name) => set_header(environ, header, name.as_ptr(), value, again)?,
            None => {
                let key = PyString::new(py, &names::key(header.as_str()));
                set_header(environ, header, key.as_ptr(), value, again)?;
            }
        }
    }
    Ok(())
}

fn set_header(
    environ: &Filling<'_>,
    header: &http::HeaderName,
    key: *mut PyObject,
    value: &HeaderValue,
    again: bool,
) -> PyResult<()> {
    let py = environ.py();
    let value = latin1(py, value.as_bytes())?;
    if !again {
        return environ.set(key, &value);
    }
    let separator = if *header == header::COOKIE { "; " } else { "," };
    // SAFETY: attached; a live key.
    let key_object = unsafe { Bound::from_borrowed_ptr(py, key) };
    let before = environ.0.get_item(&key_object)?;
    let joined = format!(
        "{}{separator}{}",
        before.extract::<String>()?,
        value.extract::<String>()?
    );
    environ.set(key, PyString::new(py, &joined).as_any())
}

/// What an environ says of the request, for a line in the log. The application may have changed it.
pub(crate) fn describe(environ: &Bound<'_, PyAny>) -> String {
    let names = Names::get();
    let text = |name: &names::Name| match environ.get_item(name) {
        Ok(value) => value.to_string(),
        Err(error) => {
            drop(exception(environ.py(), error));
            "?".to_owned()
        }
    };
    format!("{} {}", text(&names.request_method), text(&names.raw_uri))
}
