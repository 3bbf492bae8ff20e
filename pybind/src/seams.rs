//! Threads as fibers, and waits for queues, pipes and processes: what `shim/threads.c`, `simplequeue.c`, `pipes.c` and
//! `hooks.c` need of the runtime, and what `roving.patch` switches.

use crate::errors::Cancelled;
use crate::held::Held;
use crate::locks::{lot, outcome};
use crate::options::Settings;
use crate::timeout::deadline_in;
use crate::wait::{self, Step, Target, Why};
use crate::{blocking, clock, entry, shim};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use roving_runtime::sync::{LotPlace, LotWait};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_ulonglong, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// As `enum rv_group` has them.
const GROUPS: [&str; 5] = ["thread", "queue", "pipe", "subprocess", "signal"];

mod raw {
    use super::{c_char, c_int, c_ulonglong, ffi};

    unsafe extern "C" {
        pub(super) fn rv_switch_group(group: c_int, on: c_int) -> c_int;
        pub(super) fn rv_seam_entry(
            index: c_int,
            group: *mut c_int,
            module: *mut *const c_char,
            class: *mut *const c_char,
            name: *mut *const c_char,
            in_place: *mut c_int,
        ) -> c_int;
        pub(super) fn rv_set_hook(name: *const c_char, callable: *mut ffi::PyObject) -> *mut ffi::PyObject;
        pub(super) fn rv_native_threads(by: c_int);
        pub(super) fn rv_thread_begins(handle: *mut ffi::PyObject);
        pub(super) fn rv_thread_returns();
        pub(super) fn rv_thread_ended(handle: *mut ffi::PyObject);
        pub(super) fn rv_thread_refused(handle: *mut ffi::PyObject);
        pub(super) fn rv_thread_handle_ident(handle: *mut ffi::PyObject) -> c_ulonglong;
        pub(super) fn rv_thread_raised(function: *mut ffi::PyObject, exception: *mut ffi::PyObject);
    }
}

/// Threads that the interpreter waits for before it ends, by the addresses of their handles. Its lock is held for a look
/// at the table alone: never across a call into Python, or a decref.
type Waited = Mutex<HashMap<usize, Held>>;

static FIRST: LazyLock<Waited> = LazyLock::new(Waited::default);
static WAITED: AtomicPtr<Waited> = AtomicPtr::new(ptr::null_mut());

fn waited<R>(f: impl FnOnce(&mut HashMap<usize, Held>) -> R) -> R {
    // Relaxed: only changed in a child that has one thread yet.
    let of_child = WAITED.load(Ordering::Relaxed);
    let waited = if of_child.is_null() {
        &*FIRST
    } else {
        // SAFETY: never freed.
        unsafe { &*of_child }
    };
    f(&mut waited.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Forgets the parent's threads. In the child of a fork, where they do not exist.
pub(crate) fn forget() {
    WAITED.store(Box::into_raw(Box::default()), Ordering::Relaxed);
}

/// The thread of a handle begins, in its fiber.
pub(crate) fn begins(handle: &Held) {
    // SAFETY: in the fiber, attached; handles are made by `rv_spawn_thread`'s caller.
    unsafe { raw::rv_thread_begins(handle.as_ptr()) };
}

/// Its function has returned, or raised.
pub(crate) fn returns() {
    // SAFETY: as above.
    unsafe { raw::rv_thread_returns() };
}

/// What a thread's function raised is reported, and nobody is given it.
#[cold]
pub(crate) fn raised(function: &Held, error: *mut ffi::PyObject) -> crate::fiber::Outcome {
    // SAFETY: attached; the exception is an owned reference, given away.
    unsafe { raw::rv_thread_raised(function.as_ptr(), error) };
    // SAFETY: attached, as workers are.
    let py = unsafe { Python::assume_attached() };
    crate::fiber::Outcome::Returned(Held::new(py.None()))
}

/// It is over: nothing of it is left but its stack.
pub(crate) fn ended(handle: Held) {
    let also = waited(|waited| waited.remove(&handle.as_ptr().addr()));
    // SAFETY: in the fiber, attached.
    unsafe { raw::rv_thread_ended(handle.as_ptr()) };
    for held in also.into_iter().chain([handle]) {
        // SAFETY: as above. A handle's end runs no Python code.
        unsafe { held.drop_attached() };
    }
}

/// Its fiber will not run.
#[cold]
pub(crate) fn refused(handle: Held) {
    let also = waited(|waited| waited.remove(&handle.as_ptr().addr()));
    // SAFETY: the handle is alive. What this takes is free, or held for some instructions.
    unsafe { raw::rv_thread_refused(handle.as_ptr()) };
    drop((also, handle));
}

/// # Safety
/// See `seams.h`. Attached; the objects are alive.
#[unsafe(no_mangle)]
unsafe extern "C" fn rv_spawn_thread(
    function: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    kwargs: *mut ffi::PyObject,
    handle: *mut ffi::PyObject,
    daemon: c_int,
    stack_size: ffi::Py_ssize_t,
) -> c_int {
    // SAFETY: called attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: alive by the caller's promise.
    let function = unsafe { Bound::from_borrowed_ptr(py, function) };
    // SAFETY: alive, or null.
    let args = unsafe { Bound::from_borrowed_ptr_or_opt(py, args) };
    // SAFETY: as above.
    let kwargs = unsafe { Bound::from_borrowed_ptr_or_opt(py, kwargs) };
    let daemon = daemon != 0;
    let key = handle.addr();
    // SAFETY: attached, and alive.
    let hold = || unsafe { Held::from_borrowed(handle) };
    let spawned = (|| {
        let args = args.map_or_else(
            || Ok(PyTuple::empty(py)),
            |args| Ok::<_, PyErr>(args.cast_into::<PyTuple>()?),
        )?;
        let kwargs = kwargs.map(Bound::cast_into::<PyDict>).transpose()?;
        if let Some(kwargs) = &kwargs
            && kwargs.keys().iter().any(|key| !key.is_instance_of::<PyString>())
        {
            return Err(PyTypeError::new_err("keywords must be strings"));
        }
        let settings = Settings::thread(name_of(&function), stack_size.unsigned_abs(), daemon);
        if !daemon {
            let held = hold();
            waited(|waited| waited.insert(key, held));
        }
        entry::spawn_named(
            py,
            &function,
            &args,
            kwargs.as_ref(),
            Some(&settings),
            Some(hold()),
        )
    })();
    match spawned {
        Ok(_) => 0,
        Err(error) => {
            drop(waited(|waited| waited.remove(&key)));
            error.restore(py);
            -1
        }
    }
}

/// The name of the `Thread` whose method this is: for dumps.
fn name_of(function: &Bound<'_, PyAny>) -> Option<String> {
    let thread = function.getattr("__self__").ok()?;
    thread.getattr("_name").ok()?.extract().ok()
}

#[unsafe(no_mangle)]
extern "C" fn rv_next_to_join(ident: c_ulonglong) -> *mut ffi::PyObject {
    waited(|waited| {
        let next = waited.values().find(|handle| {
            // SAFETY: held by the table, whose lock we have.
            unsafe { raw::rv_thread_handle_ident(handle.as_ptr()) != ident }
        });
        next.map_or(ptr::null_mut(), |handle| {
            // SAFETY: called attached, and alive.
            unsafe { Held::from_borrowed(handle.as_ptr()) }.into_ptr()
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn rv_cancelled_class() -> *mut ffi::PyObject {
    // SAFETY: called attached. The module keeps the class alive.
    let py = unsafe { Python::assume_attached() };
    py.get_type::<Cancelled>().as_ptr()
}

/// What is asked whether there is reason to wait.
#[derive(Clone, Copy)]
struct Question {
    wanting: extern "C" fn(*const c_void) -> c_int,
    object: *const c_void,
}

// SAFETY: the answer is one atomic read of an object that the waiter keeps alive, wherever it is asked.
unsafe impl Send for Question {}
// SAFETY: as above.
unsafe impl Sync for Question {}

impl Question {
    fn ask(self) -> bool {
        (self.wanting)(self.object) != 0
    }
}

/// # Safety
/// See `seams.h`. Attached, in a fiber or on a plain thread; `object` stays alive, and `wanting` only reads it, atomically.
#[unsafe(no_mangle)]
unsafe extern "C" fn rv_wait_while(
    address: *const c_void,
    wanting: extern "C" fn(*const c_void) -> c_int,
    object: *const c_void,
    timeout: i64,
    why: c_int,
    shielded: c_int,
) -> c_int {
    let why = if why == 0 { Why::Thread } else { Why::Queue };
    wait_while(address, Question { wanting, object }, timeout, why, shielded != 0)
}

/// # Safety
/// As `rv_wait_while`.
#[unsafe(no_mangle)]
unsafe extern "C" fn rv_wait_sqlite(
    address: *const c_void,
    wanting: extern "C" fn(*const c_void) -> c_int,
    object: *const c_void,
    timeout: i64,
) -> c_int {
    wait_while(address, Question { wanting, object }, timeout, Why::Sqlite, false)
}

/// Waits until there is no reason to: attached, as its callers promise.
fn wait_while(address: *const c_void, question: Question, timeout: i64, why: Why, shielded: bool) -> c_int {
    // SAFETY: called attached.
    let py = unsafe { Python::assume_attached() };
    let address = address.addr();
    let mut place = LotPlace::Back;
    let mut step = |until: Option<Instant>| loop {
        match lot().wait(address, (place, 0), until, || question.ask()) {
            Ok(LotWait::Unneeded) => return Step::Done,
            Ok(LotWait::TimedOut) => return Step::TimedOut,
            // To look once more, before anything else can end the wait: the wake-up may have been meant for whoever finds
            // something.
            Ok(LotWait::Woken(_)) => place = LotPlace::Front,
            Err(roving_runtime::Cancelled) => return Step::Interrupted,
        }
    };
    outcome(if shielded {
        wait::block_regardless(py, why, Target::Outside, step).map(|()| true)
    } else {
        wait::block(py, deadline_in(timeout), why, Target::Outside, &mut step)
    })
}

#[unsafe(no_mangle)]
extern "C" fn rv_may_wait_at(address: *const c_void) -> c_int {
    c_int::from(lot().may_have_waiters(address.addr()))
}

#[unsafe(no_mangle)]
extern "C" fn rv_wake_one(address: *const c_void) {
    lot().wake_one(address.addr(), |_, _| Some(0), |_| {});
}

/// For how long a thread of the pool waits for another thread: somebody who gives up leaves it behind for so long.
const SLICE: Duration = Duration::from_millis(250);

/// # Safety
/// See `seams.h`. In a fiber, attached; `handle` is alive.
#[unsafe(no_mangle)]
unsafe extern "C" fn rv_join_native(handle: *mut ffi::PyObject, timeout: i64) -> c_int {
    // SAFETY: called attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: alive by the caller's promise.
    let handle = unsafe { Bound::from_borrowed_ptr(py, handle) };
    let deadline = deadline_in(timeout);
    outcome((|| {
        let join = handle.getattr("join")?;
        loop {
            if handle.call_method0("is_done")?.is_truthy()? {
                return Ok(true);
            }
            let left = deadline.map_or(SLICE, |at| at.saturating_duration_since(clock::now()));
            if left.is_zero() {
                return Ok(false);
            }
            let slice = PyTuple::new(py, [left.min(SLICE).as_secs_f64()])?;
            blocking::blocking(py, &join, &slice, None)?;
        }
    })())
}

#[unsafe(no_mangle)]
extern "C" fn rv_wait_descriptor(fd: c_int, write: c_int) -> c_int {
    // SAFETY: called attached.
    let py = unsafe { Python::assume_attached() };
    let wait = if write == 0 {
        roving_runtime::wait_readable
    } else {
        roving_runtime::wait_writable
    };
    match blocking::wait_fd(py, fd, None, wait) {
        Ok(_) => 0,
        Err(error) => {
            error.restore(py);
            -1
        }
    }
}

/// Switch a group of replacements on or off: "thread", "queue", "pipe", "subprocess" or "signal". For roving.patch.
///
/// Off, what it replaces is in place all the same, and does what it did before.
/// Raises ValueError for any other, and RuntimeError when the interpreter is not as roving knows it.
#[pyfunction]
pub(crate) fn _switch(py: Python<'_>, group: &str, on: bool) -> PyResult<()> {
    let index = GROUPS.iter().position(|known| *known == group);
    let index = index.ok_or_else(|| PyValueError::new_err(format!("there is no group {group}")))?;
    // Fibers wait by what this puts in place.
    shim::install(py)?;
    // SAFETY: attached, as the token shows.
    match unsafe { raw::rv_switch_group(index as c_int, c_int::from(on)) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(py)),
    }
}

type Seam = (&'static str, String, Option<String>, String, bool);

/// What can be replaced in place: group, module, class or None, name, and whether it is, and switched on. For roving.patch.
#[pyfunction]
pub(crate) fn _seams() -> Vec<Seam> {
    let text = |string: *const c_char| {
        // SAFETY: a static string.
        (!string.is_null()).then(|| unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned())
    };
    let mut seams = Vec::new();
    let (mut group, mut in_place) = (0, 0);
    let (mut module, mut class, mut name) = (ptr::null(), ptr::null(), ptr::null());
    // SAFETY: pointers to variables of ours.
    while unsafe {
        raw::rv_seam_entry(
            seams.len() as c_int,
            &raw mut group,
            &raw mut module,
            &raw mut class,
            &raw mut name,
            &raw mut in_place,
        )
    } != 0
    {
        let known = usize::try_from(group).ok().and_then(|group| GROUPS.get(group));
        seams.push((
            known.copied().unwrap_or_default(),
            text(module).unwrap_or_default(),
            text(class),
            text(name).unwrap_or_default(),
            in_place != 0,
        ));
    }
    seams
}

/// Have fibers that call a function of the C library's get `callable` instead; or, with None, nothing. For roving.patch.
///
/// Returns a callable that is the function as it was. Raises LookupError when its group is not in place.
#[pyfunction]
#[pyo3(signature = (name, callable, /))]
pub(crate) fn _hook(py: Python<'_>, name: &str, callable: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
    let name = CString::new(name)?;
    let callable = callable.map_or(ptr::null_mut(), Bound::as_ptr);
    // SAFETY: attached; the callable is alive, or null.
    let original = unsafe { raw::rv_set_hook(name.as_ptr(), callable) };
    // SAFETY: an owned reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, original) }.map(Bound::unbind)
}

/// Raise or lower the mark that threads started here are to be threads of the system's. For roving.patch.
#[pyfunction]
pub(crate) fn _native_threads(by: i32) {
    // SAFETY: changes a count of the fiber that runs here, or of this thread.
    unsafe { raw::rv_native_threads(by) };
}

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_switch, module)?)?;
    module.add_function(wrap_pyfunction!(_seams, module)?)?;
    module.add_function(wrap_pyfunction!(_hook, module)?)?;
    module.add_function(wrap_pyfunction!(_native_threads, module)?)
}
