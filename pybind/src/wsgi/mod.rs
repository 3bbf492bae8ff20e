//! WSGI (PEP 3333) over `roving_http`: a request's fiber, from its environ to its response.
//!
//! | what | where |
//! |---|---|
//! | a server, as Python sees it | `server.rs` |
//! | the fiber of a request, spawned in the poll of its connection | `request.rs` |
//! | the environ | `environ.rs`, with the names and values that never change in `names.rs` |
//! | `start_response`, and what is written | `writer.rs`, `start.rs` |
//! | what an application gave back: its items, their end, `close` | `respond.rs` |
//! | `wsgi.input` | `input.rs` |
//! | TLS: its files, and what an environ says of it | `tls.rs` |
//! | what the access log is told | `access.rs`, as `format.rs` has it, into a file by `log_file.rs` |
//! | `wsgi.file_wrapper` | `file.rs` |
//! | the admin listener, as Python sees it | `admin.rs` |
//!
//! In the poll of a connection nothing of Python's is called: the fiber makes all objects. Locks are held for a few
//! instructions, with neither a call into Python nor a wait under them; who waits takes what it waits with out of its place,
//! and puts it back.

mod access;
mod admin;
mod environ;
mod file;
mod format;
mod input;
mod locals;
mod log_file;
mod malformed;
mod names;
mod request;
mod respond;
mod server;
mod start;
mod tls;
mod writer;

use pyo3::prelude::*;

/// Adds the classes and functions to the module.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<server::Server>()?;
    module.add_class::<admin::Admin>()?;
    module.add_class::<input::Input>()?;
    module.add_class::<file::FileWrapper>()?;
    module.add_class::<writer::Writer>()
}
