//! A worker's own side: what only its thread touches, and what its fibers ask of it.

use super::driver::Driver;
use super::fresh::Sighting;
use super::hub::{Amount, Hub, Phase};
use super::ready::ReadyQueue;
use super::work::{Unpacked, Work};
use crate::fiber::options::Class;
use crate::fiber::parker::Unparker;
use crate::fiber::{Core, FiberRef, Home, TimerId};
use crate::loom::cell::UnsafeCell;
use crate::loom::deque;
use crate::loom::sync::Arc;
use std::cell::Cell;
use std::ptr::NonNull;
use std::time::Instant;

/// Law: `owner` is touched by the worker's thread alone, in short closures that run no code of the
/// user's.
pub(crate) struct WorkerHome {
    pub(super) hub: Arc<Hub>,
    pub(super) index: usize,
    owner: UnsafeCell<Owner>,
}

pub(super) struct Owner {
    pub(super) ready: [ReadyQueue; 2],
    pub(super) local: [deque::Worker<Work>; 2],
    /// What goes before everything else: a fiber its joiner has claimed, or a joiner whose child has ended.
    pub(super) next: Option<FiberRef>,
    /// Claims since the local queue was last rid of tombstones.
    pub(super) claims: usize,
}

impl Owner {
    /// An older one takes its turn with the ready fibers.
    fn put_next(&mut self, fiber: FiberRef) {
        if let Some(older) = self.next.replace(fiber) {
            self.ready[older.class.index()].push(older);
        }
    }

    /// Whether nothing is queued here.
    pub(super) fn is_empty(&self) -> bool {
        self.next.is_none()
            && self.ready.iter().all(ReadyQueue::is_empty)
            && self.local.iter().all(deque::Worker::is_empty)
    }

    pub(super) fn clear_next(&mut self) {
        if let Some(fiber) = self.next.take() {
            self.ready[fiber.class.index()].push(fiber);
        }
    }
}

// SAFETY: `owner` is only reached through `with_owner`, whose callers are on the worker's thread.
unsafe impl Send for WorkerHome {}
// SAFETY: as above; the rest is Sync.
unsafe impl Sync for WorkerHome {}

thread_local! {
    static HERE: Cell<Option<NonNull<WorkerHome>>> = const { Cell::new(None) };
}

impl WorkerHome {
    pub(super) fn new(hub: Arc<Hub>, index: usize, local: [deque::Worker<Work>; 2]) -> Self {
        let owner = Owner {
            ready: Default::default(),
            local,
            next: None,
            claims: 0,
        };
        Self {
            hub,
            index,
            owner: UnsafeCell::new(owner),
        }
    }

    /// # Safety
    /// On the worker's thread only, and `f` neither switches stacks nor comes back here.
    #[inline]
    pub(super) unsafe fn with_owner<R>(&self, f: impl FnOnce(&mut Owner) -> R) -> R {
        // SAFETY: one thread, no reentrance, by the caller's promise.
        self.owner.with_mut(|owner| f(unsafe { &mut *owner }))
    }

    /// Makes `self` this thread's worker until the returned mark is dropped.
    pub(super) fn enter(&self) -> Entered<'_> {
        HERE.with(|here| here.set(Some(NonNull::from(self))));
        Entered(std::marker::PhantomData)
    }

    /// The load this worker announces to placement. Called on its thread.
    #[inline]
    pub(super) fn change_live(&self, by: isize) {
        use crate::loom::sync::atomic::Ordering;
        let live = &self.hub.remotes[self.index].live;
        live.store(
            live.load(Ordering::Relaxed).wrapping_add_signed(by),
            Ordering::Relaxed,
        );
    }

    /// Background fibers start on all workers but the first, so that one is always free for requests.
    pub(super) fn starts_background(&self) -> bool {
        self.index != 0 || self.hub.regular == 1
    }

    /// Queues unstarted work of this thread.
    #[inline]
    fn push_local(&self, work: Work, class: Class) {
        let remote = &self.hub.remotes[self.index];
        remote.counters.spawned.add(1);
        let older = match class {
            Class::Normal => match remote.fresh.put(work) {
                None => return self.hub.wake_one(Amount::Lone),
                Some(older) => older,
            },
            Class::Background if self.starts_background() => work,
            // The others look there amid work of their own; out of this queue they take it only when they are idle.
            Class::Background => {
                self.hub.injector[class.index()].push(work);
                return self.hub.wake_one(Amount::Plenty);
            }
        };
        // SAFETY: `with_here` runs on the worker's thread.
        unsafe { self.with_owner(|owner| owner.local[class.index()].push(older)) };
        self.hub.wake_one(Amount::Plenty);
    }
}

pub(super) struct Entered<'a>(std::marker::PhantomData<&'a WorkerHome>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        HERE.with(|here| here.set(None));
    }
}

/// Calls `f` with this thread's worker, if it is one.
#[inline]
pub(crate) fn with_here<R>(f: impl FnOnce(&WorkerHome) -> R) -> Option<R> {
    let here = HERE.with(Cell::get)?;
    // SAFETY: `Entered` borrows the home for as long as it is set.
    Some(f(unsafe { here.as_ref() }))
}

/// Queues new work on `hub`: on this thread's worker if it is one of the hub's, else in the injector.
/// Gives it back when the runtime takes no more from here.
#[inline]
pub(crate) fn submit(hub: &Hub, work: Work, class: Class, spread: bool) -> Result<(), Work> {
    let phase = hub.phase();
    if HERE.with(Cell::get).is_some() && phase < Phase::Stopping {
        let mut work = Some(work);
        with_here(|here| {
            if here.hub.id != hub.id {
                return;
            }
            let Some(work) = work.take() else { return };
            if spread {
                here.hub.remotes[here.index].counters.spawned.add(1);
                hub.hand_to(hub.least_loaded(class), work, class);
            } else {
                here.push_local(work, class);
            }
        });
        return match work {
            None => Ok(()),
            Some(work) => submit_from_outside(hub, work, class, spread),
        };
    }
    submit_from_outside(hub, work, class, spread)
}

fn submit_from_outside(hub: &Hub, work: Work, class: Class, spread: bool) -> Result<(), Work> {
    if hub.phase() != Phase::Running {
        return Err(work);
    }
    if spread {
        hub.count_from_outside();
        hub.hand_to(hub.least_loaded(class), work, class);
    } else {
        hub.inject(work, class);
    }
    Ok(())
}

/// Which worker of `hub` this thread is.
pub(crate) fn worker_of(hub: &Hub) -> Option<usize> {
    with_here(|here| (here.hub.id == hub.id).then_some(here.index)).flatten()
}

/// Calls `f` with the hub of the worker this thread is.
#[inline]
pub(crate) fn with_current_hub<R>(f: impl FnOnce(&Hub) -> R) -> Option<R> {
    with_here(|here| f(&here.hub))
}

/// Calls `f` with the driver of the worker this thread is.
#[inline]
pub(crate) fn with_current_driver<R>(f: impl FnOnce(&dyn Driver) -> R) -> Option<R> {
    with_here(|here| f(here.hub.remotes[here.index].driver()))
}

/// Queues a future that was woken. Unlike new work it is taken from any thread until the workers leave.
pub(crate) fn resubmit(hub: &Hub, work: Work, class: Class) -> Result<(), Work> {
    if hub.phase() >= Phase::Stopping {
        return Err(work);
    }
    let mut work = Some(work);
    with_here(|here| {
        if here.hub.id == hub.id
            && let Some(work) = work.take()
        {
            here.push_local(work, class);
        }
    });
    if let Some(work) = work {
        hub.inject(work, class);
    }
    Ok(())
}

/// The hub of the worker this thread is.
pub(crate) fn current_hub() -> Option<Arc<Hub>> {
    with_here(|here| here.hub.clone())
}

impl Home for WorkerHome {
    #[inline]
    fn schedule_here(&self, fiber: FiberRef) {
        let class = fiber.class;
        // SAFETY: the trait's contract: this worker's thread.
        unsafe { self.with_owner(|owner| owner.ready[class.index()].push(fiber)) };
    }

    fn schedule_from_afar(&self, fiber: FiberRef) {
        self.hub.remotes[self.index].inbox.push(fiber);
        self.hub.wake_worker(self.index);
    }

    fn enroll(&self, core: NonNull<Core>) -> u32 {
        let place = self.hub.remotes[self.index].registry.lock().insert(core);
        if self
            .hub
            .cancelling
            .load(crate::loom::sync::atomic::Ordering::Relaxed)
        {
            // SAFETY: the running fiber is alive.
            let state = &unsafe { core.as_ref() }.state;
            // The token makes the park under way return, and so see the cancellation.
            if state.transition_to_cancelled() {
                let _ = state.transition_to_ready();
            }
        }
        place
    }

    fn arm(&self, deadline: Instant, unparker: Unparker) -> TimerId {
        self.hub.remotes[self.index].driver().arm(deadline, unparker)
    }

    fn disarm(&self, timer: TimerId) -> bool {
        self.hub.remotes[self.index].driver().disarm(timer)
    }

    fn now(&self) -> Instant {
        self.hub.time.now()
    }

    fn runtime(&self) -> u32 {
        self.hub.id
    }

    fn start_next(&self, fiber: &FiberRef) {
        let remote = &self.hub.remotes[self.index];
        let fiber = if let Some(Unpacked::Fiber(entry)) = remote
            .fresh
            .take_seen(Sighting::of(fiber.as_ptr().cast()))
            .map(Work::unpack)
        {
            // It was the newest: there goes its queue entry.
            // SAFETY: the trait's contract: this worker's thread.
            return unsafe { self.with_owner(|owner| owner.put_next(entry)) };
        } else {
            fiber.clone()
        };
        // The queue entry stays behind as a tombstone and is counted when it is dropped, so the claimed
        // fiber counts anew.
        remote.counters.spawned.add(1);
        if fiber.daemon {
            self.hub.daemon_begun();
        }
        // SAFETY: the trait's contract: this worker's thread.
        unsafe {
            self.with_owner(|owner| {
                owner.claims += 1;
                owner.put_next(fiber);
            });
        }
    }

    fn resume_next(&self, fiber: FiberRef) {
        // SAFETY: the trait's contract: this worker's thread.
        unsafe { self.with_owner(|owner| owner.put_next(fiber)) };
    }
}
