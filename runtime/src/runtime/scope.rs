//! Fibers that borrow from their spawner. After `std::thread::scope`.

use super::handle::{Handle, SpawnErrorKind, spawn_unchecked};
use crate::fiber::options::FiberOptions;
use crate::fiber::{self, Cancelled, Fiber, JoinError, JoinHandle, PanicPayload};
use crate::loom::sync::{Arc, Mutex};
use crate::scheduler::Hub;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};

/// Where the fibers of a [`scope`] are spawned.
pub struct Scope<'scope, 'env: 'scope> {
    hub: Arc<Hub>,
    children: Mutex<Children>,
    // Invariant in both, as in std: were `'scope` to shrink, borrows could be smuggled out.
    _scope: PhantomData<&'scope mut &'scope ()>,
    _env: PhantomData<&'env mut &'env ()>,
}

#[derive(Default)]
struct Children {
    fibers: Vec<Fiber>,
    /// When to look for ended ones, so that a long-lived scope keeps only what lives.
    prune_at: usize,
}

/// The outcome of one scoped fiber, shared by the fiber and its handle.
struct Packet<T>(Mutex<Option<Result<T, PanicPayload>>>);

/// What a scoped fiber runs. The fields are dropped in this order: the closure, with what it borrows, goes
/// before the fiber counts as ended, also when it never runs.
struct Main<F, T> {
    closure: F,
    packet: Arc<Packet<T>>,
}

impl<F: FnOnce() -> T, T> Main<F, T> {
    fn run(self) {
        let outcome = catch_unwind(AssertUnwindSafe(self.closure));
        *self.packet.0.lock() = Some(outcome);
    }
}

/// A handle to a scoped fiber.
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<()>,
    packet: Arc<Packet<T>>,
    _scope: PhantomData<&'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the end and returns what the fiber returned.
    ///
    /// # Errors
    /// As `JoinHandle::join`. A panic taken here is not raised again by the scope.
    pub fn join(self) -> Result<T, JoinError> {
        self.handle.join()?;
        let outcome = self.packet.0.lock().take();
        outcome
            .expect("a fiber that ended without an error left its outcome")
            .map_err(JoinError::Panicked)
    }

    /// Asks the fiber to stop.
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    /// Whether the fiber has ended.
    pub fn is_done(&self) -> bool {
        self.handle.is_done()
    }

    /// A reference to the fiber.
    pub fn fiber(&self) -> Fiber {
        self.handle.fiber()
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Runs `closure` in a new fiber that may borrow whatever outlives the scope.
    ///
    /// # Panics
    /// When the runtime has been shut down.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, closure: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        match self.spawn_with(closure, FiberOptions::default(), Location::caller()) {
            Ok(handle) => handle,
            Err(kind) => panic!("roving: could not spawn in a scope: {kind:?}"),
        }
    }

    fn spawn_with<F, T>(
        &'scope self,
        closure: F,
        options: FiberOptions,
        site: &'static Location<'static>,
    ) -> Result<ScopedJoinHandle<'scope, T>, SpawnErrorKind>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let packet = Arc::new(Packet(Mutex::new(None)));
        let main = Main {
            closure,
            packet: packet.clone(),
        };
        // SAFETY: `scope` does not return before this fiber is done, and with it `main` is gone. The handle
        // cannot leave the scope's body, and what it shares of the outcome is dropped with it.
        let spawned = unsafe { spawn_unchecked(&self.hub, move || main.run(), options, site) };
        let handle = spawned.map_err(|error| error.kind)?;
        let mut children = self.children.lock();
        if children.fibers.len() >= children.prune_at {
            children.fibers.retain(|fiber| !fiber.is_done());
            children.prune_at = (2 * children.fibers.len()).max(64);
        }
        children.fibers.push(handle.fiber());
        drop(children);
        Ok(ScopedJoinHandle {
            handle,
            packet,
            _scope: PhantomData,
        })
    }

    /// Asks every fiber of the scope to stop.
    pub fn cancel(&self) {
        // Outside the lock: a closure that never ran is dropped here, and may do anything.
        let fibers = self.children.lock().fibers.clone();
        for fiber in fibers {
            fiber.cancel();
        }
    }

    /// Waits until every fiber has ended, those spawned meanwhile included.
    fn wait(&self) {
        let mut cancelled = false;
        loop {
            // The newest first: thieves take the oldest.
            let Some(fiber) = self.children.lock().fibers.pop() else {
                return;
            };
            if !cancelled && fiber::wait_for_child(&fiber, true) == Err(Cancelled) {
                cancelled = true;
                fiber.cancel();
                self.cancel();
            }
            if cancelled {
                let _ = fiber::wait_for_child(&fiber, false);
            }
        }
    }
}

impl Handle {
    /// Runs `body`, which may spawn fibers that borrow from its surroundings, and returns when all of them have
    /// ended. When the calling fiber is cancelled meanwhile, so are they, and they are still waited for.
    ///
    /// # Panics
    /// With the body's panic, if it panicked.
    pub fn scope<'env, B, R>(&self, body: B) -> R
    where
        B: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
    {
        let scope = Scope {
            hub: self.hub.clone(),
            children: Mutex::new(Children::default()),
            _scope: PhantomData,
            _env: PhantomData,
        };
        // Caught, so that the wait below happens whatever the body does, and not while unwinding.
        let result = catch_unwind(AssertUnwindSafe(|| body(&scope)));
        scope.wait();
        result.unwrap_or_else(|payload| resume_unwind(payload))
    }
}

/// [`Handle::scope`] on the current runtime.
///
/// # Panics
/// Outside a runtime's workers, and with the body's panic.
///
/// ```
/// let runtime = roving_runtime::Runtime::builder().workers(2).build()?;
/// let total: u64 = runtime.handle().scope(|s| {
///     let words = ["a", "few", "words"];
///     let fibers: Vec<_> = words.iter().map(|word| s.spawn(|| word.len() as u64)).collect();
///     fibers.into_iter().map(|fiber| fiber.join().unwrap()).sum()
/// });
/// assert_eq!(total, 9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn scope<'env, B, R>(body: B) -> R
where
    B: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
{
    let handle = Handle::current().expect("roving: scope was called outside a runtime: use Handle::scope");
    handle.scope(body)
}
