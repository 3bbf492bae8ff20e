//! The C shim, as Rust sees it. `shim/shim.h` says what each function does.

use crate::held::Held;
use pyo3::exceptions::PyImportError;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use std::ffi::{CStr, c_char, c_int, c_ulonglong, c_void};
use std::sync::atomic::AtomicU8;

/// A fiber's record in the embedder's area of its stack.
#[repr(C)]
pub(crate) struct RvFiber {
    _opaque: [u8; 0],
}

/// A worker's record.
#[repr(C)]
pub(crate) struct RvWorker {
    _opaque: [u8; 0],
}

/// What asks a worker's fiber to give way.
#[repr(C)]
pub(crate) struct RvToken {
    _opaque: [u8; 0],
}

mod raw {
    use super::{PyObject, RvFiber, RvToken, RvWorker, c_char, c_int, c_ulonglong, c_void};

    unsafe extern "C" {
        pub(super) fn rv_check() -> *const c_char;
        pub(super) fn rv_init() -> c_int;
        #[cfg(feature = "fault-injection")]
        pub(super) fn rv_set_faults(faults: std::ffi::c_uint);
        pub(super) fn rv_worker_start() -> c_int;
        pub(super) fn rv_worker_stop();
        pub(super) fn rv_worker_detach();
        pub(super) fn rv_worker_attach();
        pub(super) fn rv_worker_turn();
        pub(super) fn rv_worker_rebase();
        pub(super) fn rv_this_worker() -> *mut RvWorker;
        pub(super) fn rv_worker_state(worker: *mut RvWorker) -> c_int;
        pub(super) fn rv_token_claim(worker: *mut RvWorker, turn: u64, fiber: u64) -> *mut RvToken;
        pub(super) fn rv_token_send(token: *mut RvToken);
        pub(super) fn rv_token_send_attached(token: *mut RvToken);
        pub(super) fn rv_interrupt_end();
        pub(super) fn rv_monitor_stop();
        pub(super) fn rv_monitor_attach() -> c_int;
        pub(super) fn rv_monitor_detach();
        pub(super) fn rv_worker_calls(worker: *mut RvWorker) -> *mut PyObject;
        pub(super) fn rv_no_preempt(by: c_int);
        pub(super) fn rv_may_give_way() -> c_int;
        pub(super) fn rv_gil_enabled() -> c_int;
        pub(super) fn rv_needs_gil(module: *mut PyObject) -> c_int;
        pub(super) fn rv_current() -> *mut RvFiber;
        pub(super) fn rv_current_object() -> *mut PyObject;
        pub(super) fn rv_place() -> c_int;
        pub(super) fn rv_is_worker() -> c_int;
        pub(super) fn rv_is_main_thread() -> c_int;
        pub(super) fn rv_is_attached() -> c_int;
        pub(super) fn rv_fiber_first(
            room: *mut c_void,
            size: usize,
            low: usize,
            high: usize,
            number: c_ulonglong,
        ) -> *mut RvFiber;
        pub(super) fn rv_fiber_resume(fiber: *mut RvFiber);
        pub(super) fn rv_fiber_resumed(fiber: *mut RvFiber);
        pub(super) fn rv_fiber_suspend(fiber: *mut RvFiber);
        pub(super) fn rv_fiber_end(fiber: *mut RvFiber);
        pub(super) fn rv_call(
            fiber: *mut RvFiber,
            object: *mut PyObject,
            callable: *mut PyObject,
            args: *mut PyObject,
            names: *mut PyObject,
            context: *mut PyObject,
            error: *mut *mut PyObject,
        ) -> *mut PyObject;
        pub(super) fn rv_finish(fiber: *mut RvFiber, object: *mut PyObject);
        pub(super) fn rv_dump(list: *mut PyObject, stacks: c_int) -> c_int;
        pub(super) fn rv_context_copy(copy: *mut *mut PyObject) -> c_int;
        pub(super) fn rv_install() -> c_int;
        pub(super) fn rv_io_patch(group: c_int, on: c_int) -> c_int;
        pub(super) fn rv_io_entry(
            index: c_int,
            group: *mut c_int,
            place: *mut *const c_char,
            name: *mut *const c_char,
            on: *mut c_int,
        ) -> c_int;
        pub(super) static rv_orphaned: c_int;
        pub(super) fn rv_orphan();
        pub(super) fn rv_nudge_import_lock();
        pub(super) fn rv_wake_thread(byte: *mut u8, keep: c_int) -> c_int;
        pub(super) fn rv_try_semaphore(lock: *const *mut c_void) -> c_int;
        pub(super) fn rv_post_semaphore(lock: *const *mut c_void);
        pub(super) fn rv_in_bookkeeping() -> c_int;
        pub(super) fn rv_keep_arguments(args: *const *mut PyObject, count: isize) -> *mut PyObject;
    }
}

/// Refuses an interpreter the shim was not compiled for, and makes what fibers share.
pub(crate) fn check(py: Python<'_>) -> PyResult<()> {
    #[cfg(feature = "fault-injection")]
    inject_faults();
    // SAFETY: attached, as the token shows.
    let why = unsafe { raw::rv_check() };
    if !why.is_null() {
        // SAFETY: a string that ends in zero and lives as long as the library.
        let why = unsafe { CStr::from_ptr(why) };
        return Err(PyImportError::new_err(why.to_string_lossy().into_owned()));
    }
    // SAFETY: attached, as the token shows.
    match unsafe { raw::rv_init() } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(py)),
    }
}

#[cfg(feature = "fault-injection")]
fn inject_faults() {
    const NAMES: [&str; 9] = [
        "anchor",
        "c-stack-refs",
        "critical-sections",
        "c-stack-limits",
        "threading-local",
        "version",
        "warnings-lock",
        "no-preempt",
        "callbacks",
    ];
    let wanted = std::env::var("ROVING_FAULTS").unwrap_or_default();
    let mut faults = 0;
    for name in wanted.split(',').filter(|name| !name.is_empty()) {
        let bit = NAMES.iter().position(|known| *known == name);
        faults |= 1 << bit.unwrap_or_else(|| panic!("ROVING_FAULTS: there is no {name}"));
    }
    // SAFETY: before there is any worker.
    unsafe { raw::rv_set_faults(faults) };
}

/// Puts the methods that know fibers in the place of CPython's.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    // SAFETY: attached, as the token shows.
    match unsafe { raw::rv_install() } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(py)),
    }
}

/// This process was forked in a fiber. Called in the child, which has one thread.
pub(crate) fn set_orphaned() {
    // SAFETY: this thread is a worker's, in a fiber, and there is no other.
    unsafe { raw::rv_orphan() };
}

/// Whether this process was forked in a fiber.
#[inline]
pub(crate) fn is_orphaned() -> bool {
    // SAFETY: only ever written while there is one thread.
    unsafe { raw::rv_orphaned != 0 }
}

/// Has the fibers that wait for the import lock look at it again.
pub(crate) fn nudge_import_lock() {
    // SAFETY: called attached.
    unsafe { raw::rv_nudge_import_lock() };
}

/// Wakes the first thread that waits for a `PyMutex` in CPython's way: see `ForeignWaiters::wake_one`.
pub(crate) fn wake_thread(byte: &AtomicU8, keep: bool) -> bool {
    // SAFETY: the byte is alive, and written atomically.
    unsafe { raw::rv_wake_thread(byte.as_ptr(), c_int::from(keep)) != 0 }
}

/// Takes a semaphore of CPython's if it is free.
///
/// # Safety
/// The lock is alive.
pub(crate) unsafe fn try_semaphore(lock: *const *mut c_void) -> bool {
    // SAFETY: by the caller's promise.
    unsafe { raw::rv_try_semaphore(lock) != 0 }
}

/// # Safety
/// The lock is alive, and held.
pub(crate) unsafe fn post_semaphore(lock: *const *mut c_void) {
    // SAFETY: by the caller's promise.
    unsafe { raw::rv_post_semaphore(lock) };
}

/// Whether the Python function that runs here must not fail for having been cancelled.
pub(crate) fn in_bookkeeping() -> bool {
    // SAFETY: called in a fiber, attached.
    unsafe { raw::rv_in_bookkeeping() != 0 }
}

/// Makes this thread a worker of the interpreter's, attached.
pub(crate) fn worker_start() {
    // SAFETY: called once, by a thread the interpreter does not know.
    if unsafe { raw::rv_worker_start() } != 0 {
        // Without a thread state nothing can run here, and the scheduler counts on this worker.
        eprintln!("roving: no memory for the thread state of a worker; aborting");
        std::process::abort();
    }
}

/// Ends what [`worker_start`] began.
pub(crate) fn worker_stop() {
    // SAFETY: the hooks call it on the worker's thread, attached, after its last fiber.
    unsafe { raw::rv_worker_stop() };
}

pub(crate) fn worker_detach() {
    // SAFETY: the hooks call it on an attached worker's thread, between fibers.
    unsafe { raw::rv_worker_detach() };
}

pub(crate) fn worker_attach() {
    // SAFETY: the hooks call it on a detached worker's thread.
    unsafe { raw::rv_worker_attach() };
}

#[inline]
pub(crate) fn worker_turn() {
    // SAFETY: the hooks call it on an attached worker's thread, between fibers.
    unsafe { raw::rv_worker_turn() };
}

/// The calling worker's record.
pub(crate) fn this_worker() -> *mut RvWorker {
    // SAFETY: reads a thread-local.
    unsafe { raw::rv_this_worker() }
}

/// What a worker's thread is to the interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerState {
    /// It does not tell: there is a GIL.
    Unknown,
    /// In a call that has let go of the interpreter, or asleep.
    Detached,
    Attached,
    /// Held up by somebody who stops the world.
    Suspended,
}

/// What a worker's thread is to the interpreter now.
///
/// # Safety
/// The worker has not been stopped.
pub(crate) unsafe fn worker_state(worker: *mut RvWorker) -> WorkerState {
    // SAFETY: live by the caller's promise; one atomic read.
    match unsafe { raw::rv_worker_state(worker) } {
        1 => WorkerState::Detached,
        2 => WorkerState::Attached,
        3 => WorkerState::Suspended,
        _ => WorkerState::Unknown,
    }
}

/// Claims the token that asks a worker's fiber to give way, if it runs this turn; `None` if it is under way already, or the
/// worker could not hear it. To be sent with [`send_token`].
///
/// # Safety
/// The worker has not been stopped.
pub(crate) unsafe fn claim_token(worker: *mut RvWorker, turn: u64, fiber: u64) -> Option<*mut RvToken> {
    // SAFETY: live by the caller's promise.
    let token = unsafe { raw::rv_token_claim(worker, turn, fiber) };
    (!token.is_null()).then_some(token)
}

/// Sends a claimed token, which attaches.
///
/// # Safety
/// Claimed and not sent yet; on the monitor's thread, detached, with no lock held.
pub(crate) unsafe fn send_token(token: *mut RvToken) {
    // SAFETY: by the caller's promise.
    unsafe { raw::rv_token_send(token) };
}

/// Sends a claimed token from an attached thread.
///
/// # Safety
/// Claimed and not sent yet; attached, and not on the thread of the token's worker.
pub(crate) unsafe fn send_token_attached(token: *mut RvToken) {
    // SAFETY: by the caller's promise.
    unsafe { raw::rv_token_send_attached(token) };
}

/// The function that may be interrupted has returned: what was to be raised in it is forgotten. Attached.
pub(crate) fn interrupt_end() {
    // SAFETY: looks at this thread's own record.
    unsafe { raw::rv_interrupt_end() };
}

/// The monitor ends.
///
/// # Safety
/// On the monitor's thread, detached, with no lock held.
pub(crate) unsafe fn monitor_stop() {
    // SAFETY: by the caller's promise.
    unsafe { raw::rv_monitor_stop() };
}

/// Raises or lowers the mark of the running fiber that it must not be preempted.
pub(crate) fn no_preempt(by: c_int) {
    // SAFETY: changes a count in the record of the fiber that runs here, if one does.
    unsafe { raw::rv_no_preempt(by) };
}

/// Whether a fiber runs here and may be suspended where it does not ask for it.
pub(crate) fn may_give_way() -> bool {
    // SAFETY: called attached; looks at this thread's own records.
    unsafe { raw::rv_may_give_way() != 0 }
}

/// Whether threads take turns with a GIL.
pub(crate) fn gil_enabled() -> bool {
    // SAFETY: atomic reads of what lives as long as the interpreter.
    unsafe { raw::rv_gil_enabled() != 0 }
}

/// Whether a module is an extension that needs the GIL.
pub(crate) fn needs_gil(module: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached, and live.
    unsafe { raw::rv_needs_gil(module.as_ptr()) != 0 }
}

/// Tells the shim that Python code has run between fibers, if this is a worker between fibers.
pub(crate) fn rebase() {
    if is_worker() && current().is_none() {
        // SAFETY: this is a worker's thread, attached, between fibers.
        unsafe { raw::rv_worker_rebase() };
    }
}

/// The fiber that runs on this thread.
#[inline]
pub(crate) fn current() -> Option<*mut RvFiber> {
    // SAFETY: reads a thread-local.
    let fiber = unsafe { raw::rv_current() };
    (!fiber.is_null()).then_some(fiber)
}

/// The object of the fiber that runs on this thread, borrowed.
#[inline]
pub(crate) fn current_object() -> Option<*mut PyObject> {
    // SAFETY: reads a thread-local, and the record of the fiber that runs.
    let object = unsafe { raw::rv_current_object() };
    (!object.is_null()).then_some(object)
}

/// Where Python code can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A thread that is no worker.
    Thread,
    Fiber,
    /// A worker, between two fibers.
    Between,
    /// A fiber, in the child of a fork in one.
    Orphan,
    /// A fiber, below C code that called back and may hold locks of its own.
    Callback,
}

/// Where the caller is.
#[inline]
pub(crate) fn place() -> Place {
    // SAFETY: reads a thread-local, and the thread state of the worker that calls.
    match unsafe { raw::rv_place() } {
        0 => Place::Thread,
        1 => Place::Fiber,
        2 => Place::Between,
        3 => Place::Orphan,
        _ => Place::Callback,
    }
}

/// Whether this thread is a worker, in a fiber or between fibers.
pub(crate) fn is_worker() -> bool {
    // SAFETY: reads a thread-local.
    unsafe { raw::rv_is_worker() != 0 }
}

pub(crate) fn is_main_thread() -> bool {
    // SAFETY: reads what the interpreter set when it started.
    unsafe { raw::rv_is_main_thread() != 0 }
}

pub(crate) fn is_attached() -> bool {
    // SAFETY: reads a thread-local of the interpreter.
    unsafe { raw::rv_is_attached() != 0 }
}

/// Makes a fiber's record in `room` and loads its state.
///
/// # Safety
/// On an attached worker's base stack; `room` is this fiber's alone until it ends, and 16-byte aligned.
#[inline]
pub(crate) unsafe fn fiber_first(
    room: std::ptr::NonNull<[u8]>,
    bounds: (usize, usize),
    number: u64,
) -> *mut RvFiber {
    let start = room.cast::<c_void>().as_ptr();
    // SAFETY: by the caller's promise.
    unsafe { raw::rv_fiber_first(start, room.len(), bounds.0, bounds.1, number) }
}

/// # Safety
/// On its worker's base stack, attached; `fiber` is suspended.
#[inline]
pub(crate) unsafe fn fiber_resume(fiber: *mut RvFiber) {
    // SAFETY: by the caller's promise.
    unsafe { raw::rv_fiber_resume(fiber) };
}

/// # Safety
/// On the fiber's own stack, right after it was resumed.
#[inline]
pub(crate) unsafe fn fiber_resumed(fiber: *mut RvFiber) {
    // SAFETY: by the caller's promise.
    unsafe { raw::rv_fiber_resumed(fiber) };
}

/// # Safety
/// On its worker's base stack, attached, right after `fiber` left its own.
#[inline]
pub(crate) unsafe fn fiber_suspend(fiber: *mut RvFiber) {
    // SAFETY: by the caller's promise.
    unsafe { raw::rv_fiber_suspend(fiber) };
}

/// # Safety
/// On its worker's base stack, attached, right after `fiber` left its own for good.
#[inline]
pub(crate) unsafe fn fiber_end(fiber: *mut RvFiber) {
    // SAFETY: by the caller's promise.
    unsafe { raw::rv_fiber_end(fiber) };
}

/// A fiber's first call: its result, or else the exception it raised.
///
/// # Safety
/// On the stack of `fiber`, attached. `object` outlives the fiber; `callable` is live; `args` and `names` are live
/// tuples or null, `names` no longer than `args`; `context` is an owned reference to a context, or null.
#[inline]
pub(crate) unsafe fn call(
    fiber: *mut RvFiber,
    object: *mut PyObject,
    callable: *mut PyObject,
    args: *mut PyObject,
    names: *mut PyObject,
    context: *mut PyObject,
) -> Result<*mut PyObject, *mut PyObject> {
    let mut error = std::ptr::null_mut();
    // SAFETY: by the caller's promise.
    let result = unsafe { raw::rv_call(fiber, object, callable, args, names, context, &raw mut error) };
    if result.is_null() { Err(error) } else { Ok(result) }
}

/// Drops what a fiber keeps of its own, and then the reference to its object, which may run any code, and park.
///
/// # Safety
/// On the stack of `fiber`, attached; `object` is the one given to [`call`], and the reference is given away.
#[inline]
pub(crate) unsafe fn finish(fiber: *mut RvFiber, object: *mut PyObject) {
    // SAFETY: by the caller's promise.
    unsafe { raw::rv_finish(fiber, object) };
}

/// A copy of the caller's context; `None` when it is empty.
pub(crate) fn context_copy(py: Python<'_>) -> PyResult<Option<Held>> {
    let mut copy = std::ptr::null_mut();
    // SAFETY: attached, as the token shows.
    match unsafe { raw::rv_context_copy(&raw mut copy) } {
        // SAFETY: attached, and the reference is ours.
        0 => Ok(unsafe { Held::from_owned(copy) }),
        _ => Err(PyErr::fetch(py)),
    }
}

/// The arguments of a call, and the names of its last ones, kept for later: `None` for none.
///
/// # Safety
/// `args` are `count` live objects, and behind them one for each name in the tuple `names`, which may be null.
#[inline]
pub(crate) unsafe fn keep_arguments(
    py: Python<'_>,
    args: *const *mut PyObject,
    count: isize,
    names: *mut PyObject,
) -> PyResult<(Option<Held>, Option<Held>)> {
    let (names, named) = if names.is_null() {
        (None, 0)
    } else {
        // SAFETY: attached; a live tuple by the caller's promise.
        let length = unsafe { ffi::PyTuple_Size(names) };
        // SAFETY: attached, and live.
        (Some(unsafe { Held::from_borrowed(names) }), length)
    };
    if count + named == 0 {
        return Ok((None, None));
    }
    // SAFETY: attached; so many live objects by the caller's promise.
    let tuple = unsafe { raw::rv_keep_arguments(args, count + named) };
    // SAFETY: attached, and the reference is ours.
    match unsafe { Held::from_owned(tuple) } {
        Some(tuple) => Ok((Some(tuple), names)),
        None => Err(PyErr::fetch(py)),
    }
}

/// Fills `list` with all fibers that have started: see `rv_dump`.
pub(crate) fn dump(list: &Bound<'_, pyo3::types::PyList>, stacks: bool) -> PyResult<()> {
    // SAFETY: attached, as the reference shows.
    match unsafe { raw::rv_dump(list.as_ptr(), c_int::from(stacks)) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(list.py())),
    }
}

/// The monitor's attachment to the interpreter, as long as it lives.
pub(crate) struct MonitorAttached(());

/// Attaches the monitor's thread, which calls it; `None` when there is no memory, or a GIL.
pub(crate) fn monitor_attach() -> Option<MonitorAttached> {
    // SAFETY: the monitor's thread, detached, by the caller's promise: no other has a reason to call it.
    (unsafe { raw::rv_monitor_attach() } == 0).then_some(MonitorAttached(()))
}

impl Drop for MonitorAttached {
    fn drop(&mut self) {
        // SAFETY: attached when it was made, on this thread.
        unsafe { raw::rv_monitor_detach() };
    }
}

/// The calls of the fiber that a worker runs: (code, line), the innermost first; an empty list if it runs none, or is gone.
pub(crate) fn worker_calls<'py>(
    py: Python<'py>,
    worker: *mut RvWorker,
) -> PyResult<Bound<'py, pyo3::types::PyList>> {
    // SAFETY: attached; the record is compared, and looked at only if it is one of the living.
    let list = unsafe { raw::rv_worker_calls(worker) };
    // SAFETY: attached; null with an exception set, or an owned reference.
    let list = unsafe { Bound::from_owned_ptr_or_err(py, list) }?;
    Ok(list.cast_into()?)
}

/// Puts the replacements of a group of `shim/io.h` in place, or takes them out.
pub(crate) fn patch(py: Python<'_>, group: c_int, on: bool) -> PyResult<()> {
    // SAFETY: attached, with no exception set.
    if unsafe { raw::rv_io_patch(group, c_int::from(on)) } == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(py))
    }
}

/// The replacement of that index: its group, module or type, name, and whether it is in place.
pub(crate) fn patched(index: usize) -> Option<(usize, String, String, bool)> {
    let (mut group, mut on) = (0, 0);
    let (mut place, mut name) = (std::ptr::null(), std::ptr::null());
    let index = c_int::try_from(index).ok()?;
    // SAFETY: all four may be written.
    let found = unsafe { raw::rv_io_entry(index, &mut group, &mut place, &mut name, &mut on) };
    if found == 0 {
        return None;
    }
    let text = |pointer: *const c_char| {
        // SAFETY: static text, set where there is an entry.
        unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
    };
    Some((usize::try_from(group).ok()?, text(place), text(name), on != 0))
}
