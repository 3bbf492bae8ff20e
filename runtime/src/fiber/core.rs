//! The record of a fiber and the counted reference to it. Its README holds the field-access law.

use super::locals::Locals;
use super::options::{Class, FiberOptions};
use super::state::StateWord;
use super::wait_list::WaitList;
use super::{Directive, Home};
use crate::context::{Context, Suspender, prefetch};
use crate::loom::cell::UnsafeCell;
use crate::loom::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
use crate::loom::sync::{Arc, Mutex};
use crate::stack::{Stack, StackClass, StackError};
use std::num::NonZeroU64;
use std::panic::Location;
use std::ptr::NonNull;

/// A fiber's identity, never reused in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FiberId(pub(super) NonZeroU64);

impl FiberId {
    /// The number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl std::fmt::Display for FiberId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a parked fiber waits for, for `dump()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum WaitReason {
    None = 0,
    Park,
    Sleep,
    Join,
    Scope,
    Mutex,
    RwLock,
    Condvar,
    Semaphore,
    Event,
    Barrier,
    Once,
    Send,
    Recv,
    Select,
    Readable,
    Writable,
    Future,
    Blocking,
}

impl WaitReason {
    const ALL: [WaitReason; 19] = {
        use WaitReason::*;
        [
            None, Park, Sleep, Join, Scope, Mutex, RwLock, Condvar, Semaphore, Event, Barrier, Once, Send,
            Recv, Select, Readable, Writable, Future, Blocking,
        ]
    };

    fn from_u8(value: u8) -> Self {
        Self::ALL[usize::from(value)]
    }

    /// A fiber that waits for other fibers to end asks for no processor time of its own until then.
    pub(crate) fn is_for_children(self) -> bool {
        matches!(self, WaitReason::Join | WaitReason::Scope)
    }
}

/// The operations that depend on the closure's and the outcome's types.
pub(crate) struct VTable {
    /// Runs the closure on the current stack and stores its outcome. Never unwinds.
    pub(super) run: unsafe fn(NonNull<Core>),
    /// Drops the closure unrun and stores why.
    pub(super) refuse: unsafe fn(NonNull<Core>, Refusal),
    /// Moves the outcome to the given `MaybeUninit<Outcome<T>>`.
    pub(super) take: unsafe fn(NonNull<Core>, NonNull<()>),
    /// Drops an outcome nobody took; returns the payload if it was a panic.
    pub(super) dispose: unsafe fn(NonNull<Core>) -> Option<PanicPayload>,
    /// Frees the allocation.
    pub(super) free: unsafe fn(NonNull<Core>),
}

/// What a panic carried.
pub(crate) type PanicPayload = Box<dyn std::any::Any + Send>;

/// Why a fiber's closure never ran.
#[derive(Debug)]
pub(crate) enum Refusal {
    Cancelled,
    NoStack(StackError),
    Abandoned,
}

/// What only the home worker's thread touches, from the fiber's start to its end.
pub(crate) struct Owned {
    pub(super) suspender: Option<Suspender<Directive>>,
    pub(crate) locals: Locals,
    /// The embedder's word; null until it sets it.
    pub(crate) embedder: *mut (),
    /// The embedder's room at the top of the stack.
    pub(crate) area: Option<NonNull<[u8]>>,
    /// The lowest usable address of the stack, and its base.
    pub(crate) bounds: (usize, usize),
    /// Where on its stack it was when it last suspended, roughly; null before.
    pub(super) suspended_at: *const u8,
    /// Depth of `shield`: above zero, cancellation is not delivered.
    pub(super) shielded: u32,
    /// Where the worker's registry lists the fiber, once it has suspended for the first time.
    pub(crate) enrolled: Option<u32>,
    /// Whether the worker counts it among its live fibers.
    pub(crate) counted: bool,
}

/// The record of a fiber, at the start of its [`super::cell::FiberCell`].
#[repr(C)]
pub(crate) struct Core {
    pub(crate) state: StateWord,
    pub(crate) class: Class,
    /// Nobody waits for it.
    pub(crate) daemon: bool,
    pub(crate) spread: bool,
    pub(crate) stack: Option<StackClass>,
    reason: AtomicU8,
    /// The runtime it was spawned on.
    pub(crate) runtime: u32,
    refs: AtomicUsize,
    pub(super) vtable: &'static VTable,
    pub(crate) id: FiberId,
    /// The link of whichever queue holds the fiber.
    next: UnsafeCell<Option<NonNull<Core>>>,
    /// Set by the fiber before it can first be parked, cleared when it is done.
    home: UnsafeCell<Option<Arc<dyn Home>>>,
    pub(super) waiters: Mutex<WaitList>,
    pub(crate) name: Option<Box<str>>,
    pub(crate) site: &'static Location<'static>,
    /// The worker's coarse clock when it last parked.
    pub(crate) since: AtomicU64,
    owned: UnsafeCell<Owned>,
    /// The suspended computation. Apart from `owned`, since the worker borrows it all the while the
    /// fiber runs, and the fiber reaches the rest.
    context: UnsafeCell<Option<Context<Stack, Directive>>>,
}

impl Core {
    pub(super) fn new(
        vtable: &'static VTable,
        options: FiberOptions,
        runtime: u32,
        site: &'static Location<'static>,
    ) -> Self {
        Self {
            state: StateWord::new(),
            class: options.class,
            daemon: options.daemon,
            spread: options.spread,
            stack: options.stack,
            reason: AtomicU8::new(0),
            runtime,
            // One for the scheduler, one for the handle.
            refs: AtomicUsize::new(2),
            vtable,
            id: super::id::next(),
            next: UnsafeCell::new(None),
            home: UnsafeCell::new(None),
            waiters: Mutex::new(WaitList::new()),
            name: options.name,
            site,
            since: AtomicU64::new(0),
            owned: UnsafeCell::new(Owned {
                suspender: None,
                locals: Locals::new(),
                embedder: std::ptr::null_mut(),
                area: None,
                bounds: (0, 0),
                suspended_at: std::ptr::null(),
                shielded: 0,
                enrolled: None,
                counted: false,
            }),
            context: UnsafeCell::new(None),
        }
    }

    pub(crate) fn reason(&self) -> WaitReason {
        WaitReason::from_u8(self.reason.load(Ordering::Relaxed))
    }

    #[inline]
    pub(super) fn set_reason(&self, reason: WaitReason) {
        self.reason.store(reason as u8, Ordering::Relaxed);
    }

    /// The queue link of a live fiber.
    ///
    /// # Safety
    /// The fiber is alive, and the caller holds its scheduler reference (a fiber is in one queue at most) or is
    /// the owner of the queue that holds it.
    #[inline]
    pub(crate) unsafe fn next(core: NonNull<Core>) -> Option<NonNull<Core>> {
        // SAFETY: alive by the caller's promise.
        let core = unsafe { core.as_ref() };
        // SAFETY: exclusive by the caller's promise.
        core.next.with(|next| unsafe { *next })
    }

    /// Sets the queue link.
    ///
    /// # Safety
    /// As for [`Core::next`].
    #[inline]
    pub(crate) unsafe fn set_next(core: NonNull<Core>, to: Option<NonNull<Core>>) {
        // SAFETY: alive by the caller's promise.
        let core = unsafe { core.as_ref() };
        // SAFETY: exclusive by the caller's promise.
        core.next.with_mut(|next| unsafe { *next = to });
    }

    /// Asks the cache for a record that will be needed soon.
    #[inline]
    pub(crate) fn prefetch(core: NonNull<Core>) {
        prefetch(core.as_ptr().cast(), size_of::<Core>());
    }

    /// Asks the cache for the part of the stack that the fiber will go on with.
    ///
    /// # Safety
    /// The fiber is alive and suspended, or has not started, and the caller is the home worker's loop.
    #[inline]
    pub(crate) unsafe fn prefetch_stack(core: NonNull<Core>) {
        // The frames that a suspension leaves behind, from the innermost on.
        const BEFORE: usize = 128;
        const BYTES: usize = 320;
        // SAFETY: alive by the caller's promise.
        let core = unsafe { core.as_ref() };
        // SAFETY: the home worker's thread, and the fiber does not run.
        let at = unsafe { core.with_owned(|owned| owned.suspended_at) };
        if !at.is_null() {
            prefetch(at.wrapping_sub(BEFORE), BYTES);
        }
    }

    /// Calls `f` with what belongs to the home worker's thread.
    ///
    /// # Safety
    /// The caller must run on the home worker's thread, or hold the right to start the fiber, and `f`
    /// must neither switch stacks nor reach this function again for the same fiber.
    #[inline]
    pub(crate) unsafe fn with_owned<R>(&self, f: impl FnOnce(&mut Owned) -> R) -> R {
        // SAFETY: one thread only, and no second borrow, by the caller's promise.
        self.owned.with_mut(|owned| f(unsafe { &mut *owned }))
    }

    /// Calls `f` with the suspended computation, which `f` may resume.
    ///
    /// # Safety
    /// The caller is the home worker's loop, on its base stack.
    #[inline]
    pub(crate) unsafe fn with_context<R>(
        &self,
        f: impl FnOnce(&mut Option<Context<Stack, Directive>>) -> R,
    ) -> R {
        // SAFETY: the loop is not reentrant, and nothing else reaches the context.
        self.context.with_mut(|context| f(unsafe { &mut *context }))
    }

    /// Whether `home` has been set. Asked by the fiber itself.
    ///
    /// # Safety
    /// The caller must run on the home worker's thread.
    #[inline]
    pub(super) unsafe fn has_home(&self) -> bool {
        // SAFETY: only the home worker's thread writes it.
        self.home.with(|home| unsafe { (*home).is_some() })
    }

    /// Sets the home.
    ///
    /// # Safety
    /// The caller must run on the home worker's thread, before the fiber's first park.
    pub(super) unsafe fn set_home(&self, to: Arc<dyn Home>) {
        // SAFETY: nobody reads it before the fiber has been seen PARKED, which comes later.
        self.home.with_mut(|home| unsafe { *home = Some(to) });
    }

    /// The home of a fiber that cannot end before the caller lets it.
    ///
    /// # Safety
    /// The caller must have moved the fiber from PARKED to ACTIVE and not scheduled it yet, or be the
    /// fiber itself after its first suspension.
    #[inline]
    pub(super) unsafe fn home(&self) -> &Arc<dyn Home> {
        // SAFETY: set before the first PARKED (its release is our acquire), cleared only after DONE,
        // which cannot come before the caller schedules the fiber.
        let home = self.home.with(|home| unsafe { &*home });
        home.as_ref().expect("a fiber that has parked has a home")
    }

    /// Drops the home reference of a fiber that is done.
    ///
    /// # Safety
    /// The fiber is DONE and the caller is its completer.
    pub(super) unsafe fn clear_home(&self) {
        // SAFETY: after DONE nobody else looks at it (`transition_to_ready` says Noted).
        self.home.with_mut(|home| unsafe { *home = None });
    }
}

// SAFETY: every field is atomic, locked, immutable, or under the field-access law of the README, whose
// accessors above are unsafe and state it.
unsafe impl Send for Core {}
// SAFETY: as above.
unsafe impl Sync for Core {}

/// A counted reference to a fiber.
pub(crate) struct FiberRef(NonNull<Core>);

// SAFETY: the count is atomic, and what `Core` allows from several threads is Sync. The typed parts
// behind the vtable are only moved under the law of `cell`, which asks for `Send`.
unsafe impl Send for FiberRef {}
// SAFETY: as above.
unsafe impl Sync for FiberRef {}

impl FiberRef {
    /// Takes over one count.
    ///
    /// # Safety
    /// `core` must be live and the caller must own the count it passes on.
    #[inline]
    pub(crate) unsafe fn from_raw(core: NonNull<Core>) -> Self {
        Self(core)
    }

    /// Gives the count to the caller, to be taken back with `from_raw`.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<Core> {
        let core = self.0;
        std::mem::forget(self);
        core
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> NonNull<Core> {
        self.0
    }
}

impl std::ops::Deref for FiberRef {
    type Target = Core;

    #[inline]
    fn deref(&self) -> &Core {
        // SAFETY: the count we hold keeps it alive.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for FiberRef {
    #[inline]
    fn clone(&self) -> Self {
        let before = self.refs.fetch_add(1, Ordering::Relaxed);
        // As in Arc: a count that wraps would free a live fiber.
        if before > isize::MAX as usize {
            std::process::abort();
        }
        Self(self.0)
    }
}

impl Drop for FiberRef {
    #[inline]
    fn drop(&mut self) {
        // Release: our uses come before the free. Pairs with the acquire fence below.
        if self.refs.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            let free = self.vtable.free;
            // SAFETY: that was the last count, so nobody else can reach the allocation.
            unsafe { free(self.0) };
        }
    }
}

impl std::fmt::Debug for FiberRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fiber")
            .field("id", &self.id.get())
            .field("name", &self.name)
            .field("state", &self.state.load())
            .finish_non_exhaustive()
    }
}
