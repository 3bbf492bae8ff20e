//! A server, as Python sees it. `roving.serve` is its user.

use super::access::{Log, Sink};
use super::environ::Common;
use super::format::Format;
use super::locals::Pool;
use super::log_file::{LogFile, Lost};
use super::malformed::Malformed;
use super::request::{self, Spawner, Wsgi};
use super::tls;
use crate::fiber::Fiber;
use crate::held::Held;
use crate::wait::{self, Step, Target, Why};
use crate::{engine, shim, timeout};
use http::HeaderValue;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use roving_http::{Config, Listener, Proxies, Tls};
use roving_runtime::Cancelled;
use roving_runtime::net::{TcpListener, UnixListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What `SERVER_SOFTWARE` says.
pub(crate) const SOFTWARE: &str = concat!("roving/", env!("CARGO_PKG_VERSION"));

/// Requests with the application at once, a worker. One that waits costs a fiber, which is little; what it costs the application is for
/// it to say.
const IN_FLIGHT: usize = 1000;

/// Zero is no server.
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// A server that runs. `roving.serve` makes it, and looks after it.
#[pyclass(frozen, module = "roving", name = "_Server")]
pub(crate) struct Server {
    pub(super) server: roving_http::Server,
    number: u32,
    tls: Option<Arc<Tls>>,
    wsgi: Arc<Wsgi>,
}

impl Server {
    /// How many lines of the access log were lost, where it is written to a file.
    pub(super) fn lost_lines(&self) -> Option<Lost> {
        match &self.wsgi.access.as_ref()?.sink {
            Sink::File(file) => Some(file.lost()),
            Sink::Python(_) => None,
        }
    }
}

/// Sets what an option says.
fn set(config: &mut Config, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let seconds = || {
        let seconds = timeout::duration(value.extract()?, name)?;
        Ok::<_, PyErr>(seconds.unwrap_or(Duration::MAX).min(Duration::from_secs(1 << 30)))
    };
    match name {
        "in_flight" => config.in_flight = value.extract()?,
        "queue" => config.queue = value.extract()?,
        "max_body" => config.max_body = value.extract()?,
        "max_target" => config.max_target = value.extract()?,
        "max_headers" => config.max_headers = value.extract()?,
        "max_head" => config.max_head = value.extract()?,
        "header_timeout" => config.header_timeout = seconds()?,
        "keep_alive" => config.keep_alive = seconds()?,
        "body_grace" => config.body_grace = seconds()?,
        "min_body_rate" => config.min_body_rate = value.extract()?,
        "write_timeout" => config.write_timeout = seconds()?,
        "http2" => config.http2 = value.extract()?,
        "http2_streams" => config.http2_streams = value.extract()?,
        "server" => {
            let text: Option<String> = value.extract()?;
            config.server = text
                .map(|text| HeaderValue::from_str(&text))
                .transpose()
                .map_err(|_| PyValueError::new_err("the Server header must be printable ASCII"))?;
        }
        "date" => config.date = value.extract()?,
        "meter" => config.meter = value.extract()?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Takes over a descriptor that listens.
fn listener(descriptor: RawFd, is_unix: bool) -> PyResult<Listener> {
    if descriptor < 0 {
        return Err(PyValueError::new_err("a descriptor is not negative"));
    }
    // SAFETY: the caller gives it away.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let listener = if is_unix {
        Listener::Unix(UnixListener::from_std(descriptor.into())?)
    } else {
        Listener::Tcp(TcpListener::from_std(descriptor.into())?)
    };
    Ok(listener)
}

#[pymethods]
impl Server {
    /// Serve an application on descriptors that listen, which are given away: pairs of a number and whether it is a Unix socket.
    #[new]
    #[pyo3(signature = (application, descriptors, report, errors, options, /))]
    fn new(
        py: Python<'_>,
        application: &Bound<'_, PyAny>,
        descriptors: Vec<(RawFd, bool)>,
        report: &Bound<'_, PyAny>,
        errors: &Bound<'_, PyAny>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        // First: whatever comes of this, they are closed.
        let listeners: Vec<_> = descriptors
            .into_iter()
            .map(|(descriptor, is_unix)| listener(descriptor, is_unix))
            .collect();
        if !application.is_callable() {
            let kind = application.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "a WSGI application is a callable, and {kind} is not"
            )));
        }
        let listeners = listeners.into_iter().collect::<PyResult<Vec<_>>>()?;
        let handle = engine::handle(py)?;
        let mut config = Config {
            in_flight: IN_FLIGHT * handle.metrics().workers.len(),
            ..Config::default()
        };
        let (mut root_path, mut cancel) = (String::new(), false);
        let (mut sink, mut malformed, mut ignored) = (None, None, None);
        let mut format = "combined".to_owned();
        let mut proxies = Proxies::default();
        let (mut files, mut locals) = (None, None);
        for (name, value) in options.iter() {
            let name: String = name.extract()?;
            match name.as_str() {
                "root_path" => root_path = value.extract()?,
                "tls" => files = Some(value.extract()?),
                "access" => sink = Some(Sink::Python(Held::new(value.unbind()))),
                "access_file" => {
                    let path: String = value.extract()?;
                    sink = Some(Sink::File(LogFile::open(Some(path).filter(|path| path != "-"))?));
                }
                "access_format" => format = value.extract()?,
                "proxies" => {
                    let (allowed, fields): (String, String) = value.extract()?;
                    proxies = Proxies::new(&allowed, &fields).map_err(PyValueError::new_err)?;
                }
                "ignored" => ignored = Some(Malformed::new(Held::new(value.unbind()))),
                "malformed" => malformed = Some(Arc::new(Malformed::new(Held::new(value.unbind())))),
                "locals" => locals = Some(Pool::new(value.extract()?)),
                "cancel_on_disconnect" => cancel = value.extract()?,
                _ if set(&mut config, &name, &value)? => {}
                _ => return Err(PyTypeError::new_err(format!("a server has no option {name}"))),
            }
        }
        config.tls = files
            .map(|files| tls::load(py, files, config.http2))
            .transpose()?;
        let files = config.tls.clone();
        let format = Format::parse(&format).map_err(PyValueError::new_err)?;
        request::prepare(py);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Who wants to know at once that a client has gone cannot wait for a write to fail.
        config.half_close = !cancel;
        let wsgi = Wsgi {
            callable: Held::new(application.clone().unbind()),
            common: Common {
                number,
                root_path,
                scheme: if files.is_some() { "https" } else { "http" },
                errors: errors.clone().unbind(),
            },
            report: Held::new(report.clone().unbind()),
            access: sink.map(|sink| Log { format, sink }),
            proxies: Some(proxies).filter(|proxies| !proxies.is_empty()),
            ignored,
            malformed,
            locals,
            cancel,
        };
        let wsgi = Arc::new(wsgi);
        let server = roving_http::Server::start(handle, listeners, config, Spawner(wsgi.clone()));
        Ok(Self {
            server,
            number,
            tls: files,
            wsgi,
        })
    }

    /// Where it listens: host and port, or a path and nothing.
    fn addresses(&self) -> Vec<(String, String)> {
        self.server.addresses()
    }

    /// Read the files of TLS again; whether there is TLS. Raises ValueError for what is wrong with them.
    fn reload_tls(&self, py: Python<'_>) -> PyResult<bool> {
        match &self.tls {
            Some(tls) => tls::reload(py, tls).map(|()| true),
            None => Ok(false),
        }
    }

    /// Accept no more connections; finish the requests there are.
    fn stop(&self) {
        self.server.stop();
    }

    /// Leave the sockets to another process, which accepts on them already; finish what is here without haste.
    fn hand_over(&self) {
        self.server.hand_over();
    }

    /// Break off the connections that are left, and cancel the fibers of their requests.
    fn cut(&self, py: Python<'_>) -> PyResult<()> {
        self.server.cut();
        let list = PyList::empty(py);
        shim::dump(&list, false)?;
        for entry in list.iter() {
            let object = entry.get_item(0)?;
            if let Ok(fiber) = object.cast::<Fiber>()
                && fiber.get().server() == self.number
            {
                fiber.get().cancel();
            }
        }
        Ok(())
    }

    /// Drop the thread-locals that were kept for requests, and keep none from now on.
    fn drop_locals(&self) {
        if let Some(locals) = &self.wsgi.locals {
            locals.close();
        }
    }

    /// Wait until there is neither a connection nor a request, for so many seconds at most; whether it came to that.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = timeout::deadline(timeout)?;
        if wait::place()? == wait::Place::Callback {
            return Err(PyRuntimeError::new_err("cannot wait for a server here"));
        }
        wait::block(
            py,
            deadline,
            Why::Descriptor,
            Target::Outside,
            |until| match self.server.wait(until) {
                Ok(true) => Step::Done,
                Ok(false) => Step::TimedOut,
                Err(Cancelled) => Step::Interrupted,
            },
        )
    }

    /// Go on with a new file of the access log's name.
    fn reopen_log(&self) -> PyResult<()> {
        if let Some(Sink::File(file)) = self.wsgi.access.as_ref().map(|log| &log.sink) {
            file.reopen()?;
        }
        Ok(())
    }

    /// Whether the access log's lines have all been written, and how many were lost.
    fn log_status(&self) -> (bool, u64) {
        match self.wsgi.access.as_ref().map(|log| &log.sink) {
            Some(Sink::File(file)) => file.status(),
            _ => (true, 0),
        }
    }

    /// How it does: connections, in_flight, queued, refused, malformed, tls_failed, accept_failed.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let statistics = self.server.statistics();
        let dict = PyDict::new(py);
        dict.set_item("connections", statistics.connections)?;
        dict.set_item("in_flight", statistics.in_flight)?;
        dict.set_item("queued", statistics.queued)?;
        dict.set_item("refused", statistics.refused)?;
        dict.set_item("malformed", statistics.malformed)?;
        dict.set_item("tls_failed", statistics.tls_failed)?;
        dict.set_item("accept_failed", statistics.accept_failed)?;
        Ok(dict)
    }
}
