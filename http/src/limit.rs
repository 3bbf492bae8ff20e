//! How many requests may be with the application at once.
//!
//! `taken` counts permits; who finds none stands in a bounded queue. *No turn is lost*: who comes to wait counts itself
//! in `waiting` and then looks at `taken` again; who gives a permit back lowers `taken` and then looks at `waiting`. Both are
//! sequentially consistent, so at least one of the two sees the other.

use crate::server::Context;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll, Waker};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Limit {
    most: usize,
    queue_length: usize,
    taken: AtomicUsize,
    waiting: AtomicUsize,
    queue: Mutex<VecDeque<Arc<Turn>>>,
    /// To be woken when no permit is out any more.
    idle: Mutex<Vec<Waker>>,
    /// Whether anybody waits for that.
    awaited: AtomicBool,
}

/// A place in the queue.
#[derive(Debug)]
struct Turn {
    granted: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// The right of one request to be with the application; dropped when the application is done with it.
pub struct Permit(Arc<Context>);

/// A wait for a [`Permit`]. Dropped, it leaves the queue.
#[derive(Debug)]
pub(crate) struct Waiting {
    limit: Arc<Limit>,
    turn: Arc<Turn>,
}

pub(crate) enum Asked {
    /// To be made a [`Permit`].
    Granted,
    Queued(Waiting),
    Refused,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Limit {
    pub(crate) fn new(most: usize, queue_length: usize) -> Self {
        Self {
            most: most.max(1),
            queue_length,
            taken: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            queue: Mutex::new(VecDeque::new()),
            idle: Mutex::new(Vec::new()),
            awaited: AtomicBool::new(false),
        }
    }

    /// How many requests are with the application, and how many wait for that.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.taken.load(SeqCst), self.waiting.load(SeqCst))
    }

    fn try_take(&self) -> bool {
        self.taken
            .fetch_update(SeqCst, SeqCst, |taken| (taken < self.most).then_some(taken + 1))
            .is_ok()
    }

    pub(crate) fn ask(self: &Arc<Self>) -> Asked {
        if self.waiting.load(SeqCst) == 0 && self.try_take() {
            return Asked::Granted;
        }
        let mut queue = lock(&self.queue);
        if queue.len() >= self.queue_length {
            drop(queue);
            // Its length may be zero.
            return match self.try_take() {
                true => Asked::Granted,
                false => Asked::Refused,
            };
        }
        let turn = Arc::new(Turn {
            granted: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        queue.push_back(turn.clone());
        self.waiting.fetch_add(1, SeqCst);
        let woken = self.serve(&mut queue);
        drop(queue);
        woken.into_iter().for_each(Waker::wake);
        Asked::Queued(Waiting {
            limit: self.clone(),
            turn,
        })
    }

    /// Gives permits to those who wait, as far as there are any.
    fn serve(&self, queue: &mut VecDeque<Arc<Turn>>) -> Vec<Waker> {
        let mut wake = Vec::new();
        while !queue.is_empty() && self.try_take() {
            let turn = queue.pop_front().expect("it is not empty");
            self.waiting.fetch_sub(1, SeqCst);
            turn.granted.store(true, SeqCst);
            wake.extend(lock(&turn.waker).take());
        }
        wake
    }

    fn give_back(&self) {
        let before = self.taken.fetch_sub(1, SeqCst);
        if self.waiting.load(SeqCst) != 0 {
            let woken = self.serve(&mut lock(&self.queue));
            woken.into_iter().for_each(Waker::wake);
        }
        if before == 1 && self.awaited.load(SeqCst) {
            let woken = std::mem::take(&mut *lock(&self.idle));
            woken.into_iter().for_each(Waker::wake);
        }
    }

    /// Ready once no permit is out.
    pub(crate) fn poll_idle(&self, context: &mut task::Context<'_>) -> Poll<()> {
        if self.taken.load(SeqCst) == 0 {
            return Poll::Ready(());
        }
        let mut idle = lock(&self.idle);
        idle.push(context.waker().clone());
        self.awaited.store(true, SeqCst);
        drop(idle);
        // The last one may just have looked at `awaited`.
        if self.taken.load(SeqCst) == 0 {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Permit {
    /// One that was granted.
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self(context)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.shared.limit.give_back();
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Permit")
    }
}

impl Waiting {
    /// Ready once a permit was granted.
    pub(crate) fn poll(&self, context: &mut task::Context<'_>) -> Poll<()> {
        let mut waker = lock(&self.turn.waker);
        // Under the lock: who grants stores first, and takes the waker after.
        if self.turn.granted.swap(false, SeqCst) {
            return Poll::Ready(());
        }
        match &*waker {
            Some(waker) if waker.will_wake(context.waker()) => {}
            _ => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut queue = lock(&self.limit.queue);
        if let Some(place) = queue.iter().position(|turn| Arc::ptr_eq(turn, &self.turn)) {
            queue.remove(place);
            self.limit.waiting.fetch_sub(1, SeqCst);
        }
        drop(queue);
        if self.turn.granted.swap(false, SeqCst) {
            self.limit.give_back();
        }
    }
}
