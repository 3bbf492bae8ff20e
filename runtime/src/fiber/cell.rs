//! One allocation for the record, the closure and then the outcome.

use super::core::{Core, FiberRef, PanicPayload, Refusal, VTable};
use super::handle::JoinError;
use super::options::FiberOptions;
use crate::loom::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::NonNull;

/// What a fiber ends with.
pub(crate) type Outcome<T> = Result<T, JoinError>;

enum Stage<F, T> {
    Closure(F),
    Running,
    Outcome(Outcome<T>),
    Taken,
}

/// Law: `stage` belongs to whoever moved the state word from UNSTARTED to ACTIVE until DONE, and then
/// to the one holder of the handle (or to whoever detached it).
#[repr(C)]
pub(super) struct FiberCell<F, T> {
    core: Core,
    stage: UnsafeCell<Stage<F, T>>,
}

/// Makes an unstarted fiber: the scheduler's reference and the handle's.
///
/// # Safety
/// `F` and `T` may hold borrows that end: the caller keeps them alive until the fiber is done and its
/// outcome taken or disposed of. `T` is read on whichever thread joins.
pub(super) unsafe fn allocate<F, T>(
    closure: F,
    options: FiberOptions,
    runtime: u32,
    site: &'static Location<'static>,
) -> (FiberRef, FiberRef)
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let cell = Box::new(FiberCell::<F, T> {
        core: Core::new(vtable::<F, T>(), options, runtime, site),
        stage: UnsafeCell::new(Stage::Closure(closure)),
    });
    let core = NonNull::from(Box::leak(cell)).cast::<Core>();
    // SAFETY: `Core::new` counts two references; this is the first,
    let scheduler = unsafe { FiberRef::from_raw(core) };
    // SAFETY: and this the second.
    let handle = unsafe { FiberRef::from_raw(core) };
    (scheduler, handle)
}

fn vtable<F, T>() -> &'static VTable
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    const {
        &VTable {
            run: run::<F, T>,
            refuse: refuse::<F, T>,
            take: take::<F, T>,
            dispose: dispose::<F, T>,
            free: free::<F, T>,
        }
    }
}

/// # Safety
/// `core` begins a live `FiberCell<F, T>`, and the caller owns its stage under the cell's law; `f` does
/// not come back here.
unsafe fn with_stage<F, T, R>(core: NonNull<Core>, f: impl FnOnce(&mut Stage<F, T>) -> R) -> R {
    // SAFETY: by the caller's promise; the record is the first field of the repr(C) cell.
    let cell = unsafe { core.cast::<FiberCell<F, T>>().as_ref() };
    // SAFETY: exclusive by the caller's promise.
    cell.stage.with_mut(|stage| f(unsafe { &mut *stage }))
}

/// # Safety
/// As [`with_stage`], by the one that moved the fiber to ACTIVE, once.
unsafe fn run<F, T>(core: NonNull<Core>)
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    // SAFETY: passed on to the caller.
    let stage = unsafe { with_stage::<F, T, _>(core, |stage| std::mem::replace(stage, Stage::Running)) };
    let Stage::Closure(closure) = stage else {
        unreachable!("a fiber runs once")
    };
    let outcome = catch_unwind(AssertUnwindSafe(closure)).map_err(JoinError::Panicked);
    // SAFETY: passed on to the caller.
    unsafe { with_stage::<F, T, _>(core, |stage| *stage = Stage::Outcome(outcome)) };
}

/// # Safety
/// As [`run`].
unsafe fn refuse<F, T>(core: NonNull<Core>, why: Refusal)
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let outcome = Stage::Outcome(Err(match why {
        Refusal::Cancelled => JoinError::Cancelled,
        Refusal::NoStack(error) => JoinError::NoStack(error),
        Refusal::Abandoned => JoinError::Abandoned,
    }));
    // SAFETY: passed on to the caller.
    let closure = unsafe { with_stage::<F, T, _>(core, |stage| std::mem::replace(stage, outcome)) };
    // A destructor of the user's that panics must not take the worker with it.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(closure))) {
        let outcome = Stage::Outcome(Err(JoinError::Panicked(payload)));
        // SAFETY: passed on to the caller.
        drop(unsafe { with_stage::<F, T, _>(core, |stage| std::mem::replace(stage, outcome)) });
    }
}

/// # Safety
/// As [`with_stage`], after DONE, and `to` points to a `MaybeUninit<Outcome<T>>`.
unsafe fn take<F, T>(core: NonNull<Core>, to: NonNull<()>) {
    // SAFETY: passed on to the caller.
    let stage = unsafe { with_stage::<F, T, _>(core, |stage| std::mem::replace(stage, Stage::Taken)) };
    let Stage::Outcome(outcome) = stage else {
        unreachable!("an outcome is taken once, after the end")
    };
    // SAFETY: by the caller's promise.
    let to = unsafe { to.cast::<MaybeUninit<Outcome<T>>>().as_mut() };
    to.write(outcome);
}

/// # Safety
/// As [`with_stage`], after DONE.
unsafe fn dispose<F, T>(core: NonNull<Core>) -> Option<PanicPayload> {
    // SAFETY: passed on to the caller.
    let stage = unsafe { with_stage::<F, T, _>(core, |stage| std::mem::replace(stage, Stage::Taken)) };
    match stage {
        Stage::Outcome(Err(JoinError::Panicked(payload))) => Some(payload),
        // The value's own destructor may panic: that is an unjoined panic too.
        rest => catch_unwind(AssertUnwindSafe(|| drop(rest))).err(),
    }
}

/// # Safety
/// The last reference is gone.
unsafe fn free<F, T>(core: NonNull<Core>) {
    // SAFETY: made by `allocate` through a Box of this very type.
    drop(unsafe { Box::from_raw(core.cast::<FiberCell<F, T>>().as_ptr()) });
}
