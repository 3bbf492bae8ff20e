//! The connections there are, so that they can be told that the server stops.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How far the server has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Course {
    Serving = 0,
    /// Another process accepts on the same sockets. Connections that are here end after their next request, or for want of one.
    HandedOver = 1,
    /// What is in flight is finished, and nothing new begun.
    Draining = 2,
    /// Connections end wherever they are.
    Cut = 3,
}

/// A connection enters its waker and then looks at the course; who changes the course does so before it wakes them all. So
/// no connection misses it.
#[derive(Debug)]
pub(crate) struct Registry {
    course: AtomicU8,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
    taken: usize,
    /// To be woken when nobody is left.
    idle: Vec<Waker>,
}

/// A connection's place.
#[derive(Debug)]
pub(crate) struct Seat {
    registry: std::sync::Arc<Registry>,
    index: usize,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            course: AtomicU8::new(Course::Serving as u8),
            seats: Mutex::default(),
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn course(&self) -> Course {
        match self.course.load(SeqCst) {
            0 => Course::Serving,
            1 => Course::HandedOver,
            2 => Course::Draining,
            _ => Course::Cut,
        }
    }

    /// Goes on to a later course.
    pub(crate) fn advance(&self, to: Course) {
        if self.course.fetch_max(to as u8, SeqCst) >= to as u8 {
            return;
        }
        let wakers: Vec<Waker> = self.seats().wakers.iter().flatten().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn sit(self: &std::sync::Arc<Self>) -> Seat {
        let mut seats = self.seats();
        seats.taken += 1;
        let index = match seats.free.pop() {
            Some(index) => index,
            None => {
                seats.wakers.push(None);
                seats.wakers.len() - 1
            }
        };
        drop(seats);
        Seat {
            registry: self.clone(),
            index,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.seats().taken
    }

    /// Ready once there is no connection.
    pub(crate) fn poll_idle(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut seats = self.seats();
        if seats.taken == 0 {
            return Poll::Ready(());
        }
        seats.idle.push(context.waker().clone());
        Poll::Pending
    }
}

impl Seat {
    /// Has the task woken when the course changes.
    pub(crate) fn enter(&self, waker: &Waker) {
        let mut seats = self.registry.seats();
        let old = seats.wakers[self.index].replace(waker.clone());
        drop(seats);
        drop(old);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.registry.seats();
        let old = seats.wakers[self.index].take();
        seats.free.push(self.index);
        seats.taken -= 1;
        let idle = match seats.taken {
            0 => std::mem::take(&mut seats.idle),
            _ => Vec::new(),
        };
        drop(seats);
        drop(old);
        idle.into_iter().for_each(Waker::wake);
    }
}
