//! The admin listener, as Python sees it. Its thread never attaches to the interpreter.

use super::log_file::Lost;
use super::server::Server;
use crate::{blocked, engine, shim};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use roving_http::{AdminListener, Exposition, Kind};
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// A listener with /healthz, /readyz and /metrics. `roving.serve` makes it.
#[pyclass(frozen, module = "roving", name = "_Admin")]
pub(crate) struct Admin {
    admin: roving_http::Admin,
    /// Of the server that is watched.
    lost: Arc<Mutex<Option<Lost>>>,
}

/// What only this crate knows. Called on the listener's thread, detached, it calls nothing of Python's.
fn add_more(page: &mut Exposition, python: &str, lost: &Mutex<Option<Lost>>) {
    let name = "roving_build_info";
    page.family(name, Kind::Gauge, "The versions of what runs here.");
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("python", python)];
    page.sample(name, &labels, 1);
    let gil = u8::from(shim::gil_enabled());
    let help = "Whether threads take turns with a GIL.";
    page.single("roving_gil_enabled", Kind::Gauge, help, gil);
    let help = "Calls that were found blocking a worker.";
    let calls = blocked::count(engine::process());
    page.single("roving_blocking_calls_total", Kind::Counter, help, calls);
    let lost = lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(lost) = lost {
        let help = "Lines of the access log that were dropped, since its file did not take them.";
        let name = "roving_access_log_lost_total";
        page.single(name, Kind::Counter, help, lost.load(Ordering::Relaxed));
    }
}

#[pymethods]
impl Admin {
    /// Answer on descriptors that listen, which are given away: pairs of a number and whether it is a Unix socket.
    /// Without a server it is not ready, until there is one to watch.
    #[new]
    #[pyo3(signature = (descriptors, python, server=None, /))]
    fn new(
        descriptors: Vec<(RawFd, bool)>,
        python: String,
        server: Option<&Bound<'_, Server>>,
    ) -> PyResult<Self> {
        if descriptors.iter().any(|(descriptor, _)| *descriptor < 0) {
            return Err(PyValueError::new_err("a descriptor is not negative"));
        }
        let listeners = descriptors.into_iter().map(|(descriptor, is_unix)| {
            // SAFETY: the caller gives it away.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
            match is_unix {
                true => AdminListener::Unix(UnixListener::from(descriptor)),
                false => AdminListener::Tcp(TcpListener::from(descriptor)),
            }
        });
        let lost = Arc::new(Mutex::new(server.and_then(|server| server.get().lost_lines())));
        let theirs = lost.clone();
        let more = Box::new(move |page: &mut Exposition| add_more(page, &python, &theirs));
        let admin = roving_http::Admin::start(
            listeners.collect(),
            server.map(|server| &server.get().server),
            more,
        )?;
        Ok(Self { admin, lost })
    }

    /// Tell of this server from now on.
    #[pyo3(signature = (server, /))]
    fn watch(&self, server: &Bound<'_, Server>) {
        let server = server.get();
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = server.lost_lines();
        self.admin.watch(&server.server);
    }

    /// Where it listens: host and port, or a path and nothing.
    fn addresses(&self) -> Vec<(String, String)> {
        self.admin.addresses()
    }

    /// Answer no more. Its thread is waited for, which waits for nobody.
    fn stop(&self) {
        self.admin.stop();
    }
}
