//! Fibers whose first call is Rust code, spawned from where no Python code may run: a connection's poll.

use crate::fiber::Fiber;
use crate::shim::{self, RvFiber};
use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use roving_runtime::{Handle, JoinHandle, SpawnErrorKind};
use std::ptr::NonNull;

mod raw {
    use super::{PyObject, RvFiber};

    unsafe extern "C" {
        pub(super) fn rv_begin(fiber: *mut RvFiber, object: *mut PyObject);
        pub(super) fn rv_invoke(
            callable: *mut PyObject,
            args: *const *mut PyObject,
            count: usize,
        ) -> *mut PyObject;
        pub(super) fn rv_next(iterator: *mut PyObject) -> *mut PyObject;
        pub(super) fn rv_finish(fiber: *mut RvFiber, object: *mut PyObject);
    }
}

/// What a fiber begins with. Its handle is put there between its making and its start.
struct Start<F> {
    handle: Option<JoinHandle<()>>,
    server: u32,
    body: F,
}

/// Owned by the fiber's closure, and reached by its maker until the fiber is started.
struct Owned<F>(NonNull<Start<F>>);

// SAFETY: it owns what it points to, which is Send.
unsafe impl<F: Send> Send for Owned<F> {}

impl<F> Owned<F> {
    fn take(self) -> Start<F> {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: made by `Box::into_raw`, and given out once.
        *unsafe { Box::from_raw(this.0.as_ptr()) }
    }
}

impl<F> Drop for Owned<F> {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw`, and not taken.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Spawns a fiber that calls `body`, in which it is a fiber as those of `roving.spawn` are. `body` is dropped where it cannot
/// run: on any thread, attached or not.
///
/// Calls nothing of Python's.
pub(crate) fn spawn<F>(handle: &Handle, server: u32, body: F) -> Result<(), SpawnErrorKind>
where
    F: FnOnce(Python<'_>) + Send + 'static,
{
    let start = Box::new(Start {
        handle: None,
        server,
        body,
    });
    let start = NonNull::from(Box::leak(start));
    let owned = Owned(start);
    let (prepared, joiner) = handle
        .fiber()
        .prepare(move || run(owned.take()))
        .map_err(|error| error.kind)?;
    // SAFETY: alive, since the closure that owns it is not started; nobody else reaches it meanwhile.
    unsafe { (*start.as_ptr()).handle = Some(joiner) };
    prepared.start();
    Ok(())
}

/// On the fiber's own stack.
fn run<F: FnOnce(Python<'_>)>(start: Start<F>) {
    let record = shim::current().expect("a fiber's closure runs in a fiber");
    // SAFETY: attached as workers are.
    let py = unsafe { Python::assume_attached() };
    let handle = start.handle.expect("set before the start");
    let object = match Py::new(py, Fiber::native(handle, start.server)) {
        Ok(object) => object.into_ptr(),
        Err(error) => {
            // Out of memory: what `body` holds is dropped, and says so to whoever waits for it.
            drop(error.into_value(py).into_bound(py));
            return;
        }
    };
    // SAFETY: this is the fiber's stack, and the reference is ours until `rv_finish`.
    unsafe { raw::rv_begin(record, object) };
    (start.body)(py);
    // SAFETY: made above, and alive.
    let fiber = unsafe { Fiber::of(object) };
    // SAFETY: this is that fiber, attached.
    unsafe { fiber.return_none() };
    // SAFETY: this is the fiber's stack, attached; the reference is given away.
    unsafe { raw::rv_finish(record, object) };
}

/// Calls `callable` with `args`, on the stack of a fiber of this module's, or of a thread of the pool.
pub(crate) fn invoke<'py, const N: usize>(
    callable: &Bound<'py, PyAny>,
    args: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    let args = args.map(Bound::as_ptr);
    // SAFETY: attached; so many live objects.
    let result = unsafe { raw::rv_invoke(callable.as_ptr(), args.as_ptr(), N) };
    // SAFETY: an owned reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// The next item of an iterator, on the stack of a fiber of this module's; `None` at the end.
pub(crate) fn next<'py>(iterator: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = iterator.py();
    // SAFETY: attached, and an iterator is live.
    let item = unsafe { raw::rv_next(iterator.as_ptr()) };
    if item.is_null() {
        return match PyErr::take(py) {
            Some(error) => Err(error),
            None => Ok(None),
        };
    }
    // SAFETY: an owned reference.
    Ok(Some(unsafe { Bound::from_owned_ptr(py, item) }))
}

/// The exception of an error, which is gone when this is dropped, and not put off: see `held`.
pub(crate) fn exception(py: Python<'_>, error: PyErr) -> Bound<'_, pyo3::exceptions::PyBaseException> {
    error.into_value(py).into_bound(py)
}

/// An object that CPython keeps alive for good: interned text.
pub(crate) fn interned(py: Python<'_>, text: &str) -> Py<pyo3::types::PyString> {
    pyo3::types::PyString::intern(py, text).unbind()
}
