//! A reference that is dropped at once wherever its holder is attached.
//!
//! PyO3's `Py` asks PyO3's own count whether the thread is attached. A worker is attached without PyO3 having
//! had a hand in it, so there a `Py` would put off its decref until somebody attaches through PyO3.

use crate::shim;
use pyo3::ffi;
use pyo3::prelude::*;
use std::mem::ManuallyDrop;

/// An owned reference.
pub(crate) struct Held(ManuallyDrop<Py<PyAny>>);

impl Held {
    pub(crate) fn new(object: Py<PyAny>) -> Self {
        Self(ManuallyDrop::new(object))
    }

    /// Takes over a reference; `None` for null.
    ///
    /// # Safety
    /// `object` is null or an owned reference that the caller gives away; attached.
    pub(crate) unsafe fn from_owned(object: *mut ffi::PyObject) -> Option<Self> {
        // SAFETY: attached by the caller's promise.
        let py = unsafe { Python::assume_attached() };
        // SAFETY: null or owned by the caller's promise.
        let object = unsafe { Bound::from_owned_ptr_or_opt(py, object) };
        object.map(|object| Self::new(object.unbind()))
    }

    /// Counts a reference.
    ///
    /// # Safety
    /// Attached, and `object` is live.
    pub(crate) unsafe fn from_borrowed(object: *mut ffi::PyObject) -> Self {
        // SAFETY: attached by the caller's promise.
        let py = unsafe { Python::assume_attached() };
        // SAFETY: live by the caller's promise.
        let object = unsafe { Bound::from_borrowed_ptr(py, object) };
        Self::new(object.unbind())
    }

    /// As dropping it, without asking whether this thread is attached.
    ///
    /// # Safety
    /// In a fiber or on a plain thread, attached.
    #[inline]
    pub(crate) unsafe fn drop_attached(self) {
        // SAFETY: by the caller's promise, and the reference is ours and given away.
        unsafe { ffi::Py_DECREF(self.into_ptr()) };
    }

    /// The reference, as PyO3's.
    #[inline]
    pub(crate) fn into_py(self) -> Py<PyAny> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never looked at again.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0.as_ptr()
    }

    /// Gives the reference to the caller.
    pub(crate) fn into_ptr(self) -> *mut ffi::PyObject {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never looked at again.
        unsafe { ManuallyDrop::take(&mut this.0) }.into_ptr()
    }
}

impl std::ops::Deref for Held {
    type Target = Py<PyAny>;

    fn deref(&self) -> &Py<PyAny> {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let object = self.0.as_ptr();
        if shim::is_attached() {
            // SAFETY: attached, and the reference is ours and not used again.
            unsafe { ffi::Py_DECREF(object) };
            shim::rebase();
        } else {
            // Threads of the runtime that are no workers, as the one that shuts it down. When the interpreter is
            // gone so is the object.
            let _ = Python::try_attach(|_| {
                // SAFETY: attached, and the reference is ours and not used again.
                unsafe { ffi::Py_DECREF(object) };
            });
        }
    }
}
