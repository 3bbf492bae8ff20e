//! Stack switching. The only importer of corosensei (asserted by `tests/layering`).
//!
//! A [`Context`] is a suspended computation with a stack of its own. It is asymmetric: `resume`
//! enters it from a worker's base stack, `Suspender::suspend` goes back there. The README beside
//! this file draws the memory.

mod prefetch;
#[cfg(all(test, not(loom)))]
mod test;

pub(crate) use prefetch::prefetch;

use corosensei::stack::{Stack as CoroStack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::ptr::NonNull;

/// Memory that a [`Context`] can run on.
///
/// # Safety
/// `[limit, base)` must be readable and writable memory owned by the value for as long as it lives,
/// wherever the value itself is moved, except for guard pages at its low end, which must fault on any
/// access. `base` and `limit` must be non-zero, 16-byte aligned and constant, with at least
/// 4,096 usable bytes between the guard and `base`.
pub(crate) unsafe trait StackMemory: 'static {
    /// One past the highest byte the C stack may use; the stack grows down from here.
    fn base(&self) -> usize;
    /// The lowest address of the stack, guard pages included.
    fn limit(&self) -> usize;
}

/// Gives corosensei the view of our stack that it wants.
struct Adapter<S>(S);

// SAFETY: `StackMemory`'s contract is corosensei's (owned, guarded, aligned, large enough), and its
// implementer upholds it.
unsafe impl<S: StackMemory> CoroStack for Adapter<S> {
    fn base(&self) -> StackPointer {
        StackPointer::new(self.0.base()).expect("StackMemory::base is never zero")
    }

    fn limit(&self) -> StackPointer {
        StackPointer::new(self.0.limit()).expect("StackMemory::limit is never zero")
    }
}

/// Why control came back to the base stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switched<Y> {
    /// The body suspended itself with this message.
    Suspended(Y),
    /// The body returned; the stack can be taken back with [`Context::into_stack`].
    Finished,
}

/// A computation on its own stack.
pub(crate) struct Context<S: StackMemory, Y: Copy + 'static>(Coroutine<(), Y, (), Adapter<S>>);

impl<S: StackMemory, Y: Copy + 'static> Context<S, Y> {
    /// Prepares `body` to run on `stack` at the first `resume`.
    ///
    /// `body` must catch its own panics: one that leaves it aborts the process, since it would
    /// otherwise unwind into the scheduler with another stack's state loaded.
    pub(crate) fn new<F>(stack: S, body: F) -> Self
    where
        F: FnOnce(Suspender<Y>) + 'static,
    {
        Self(Coroutine::with_stack(Adapter(stack), move |yielder, ()| {
            let bomb = AbortOnUnwind;
            body(Suspender(NonNull::from(yielder)));
            std::mem::forget(bomb);
        }))
    }

    /// Switches to the context until it suspends or finishes.
    #[inline]
    pub(crate) fn resume(&mut self) -> Switched<Y> {
        match self.0.resume(()) {
            CoroutineResult::Yield(message) => Switched::Suspended(message),
            CoroutineResult::Return(()) => Switched::Finished,
        }
    }

    /// The stack of a context that has finished or never started.
    pub(crate) fn into_stack(self) -> S {
        self.0.into_stack().0
    }

    /// Leaks a suspended context: nothing on its stack is dropped and the stack is never reused, so
    /// whatever borrows from it stays valid for ever.
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }
}

/// The way back to the base stack, for code that runs inside the context.
///
/// Copied into the fiber's record when the body starts; only meaningful while that body runs.
pub(crate) struct Suspender<Y: Copy + 'static>(NonNull<Yielder<(), Y>>);

impl<Y: Copy + 'static> Clone for Suspender<Y> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Y: Copy + 'static> Copy for Suspender<Y> {}

impl<Y: Copy + 'static> Suspender<Y> {
    /// Switches to the base stack, handing it `message`; returns at the next `resume`.
    ///
    /// # Safety
    /// Must be called on the stack of the context this suspender was given to, by code that the
    /// context's body runs.
    #[inline]
    pub(crate) unsafe fn suspend(self, message: Y) {
        // SAFETY: the yielder lives at the base of the context's own stack until the body ends, and
        // the caller runs inside that body.
        unsafe { self.0.as_ref() }.suspend(message);
    }
}

/// Aborts the process if a panic passes through it.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        eprintln!("roving: internal error: a panic left the body of a fiber; aborting");
        std::process::abort();
    }
}
