//! One worker's poll and timer queue.
//!
//! The poll is behind a lock that the owner holds while it sleeps; any other thread may look in its place
//! with a try-lock when the owner is stuck. The timer queue has a lock of its own, since fibers arm and
//! disarm timers while the poll is held. Wakes are begun under the timer queue's lock and finished after
//! it is released: see `fiber::parker`.

use super::alarm::Alarm;
use super::timers::{TimerKey, TimerQueue};
use crate::fiber::TimerId;
use crate::fiber::parker::{Unparker, Wake};
use crate::loom::sync::Mutex;
use crate::loom::sync::atomic::{AtomicUsize, Ordering};
use crate::scheduler::driver::Driver;
use mio::{Events, Poll, Token, Waker};
use std::io;
use std::time::{Duration, Instant};

const WAKE: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);
const EVENTS: usize = 256;

pub(crate) struct PollDriver {
    poll: Mutex<PollSide>,
    timers: Mutex<Timers>,
    /// Pending timers, so that a look need not take the lock to learn that there are none.
    pending: AtomicUsize,
    waker: Waker,
}

struct PollSide {
    poll: Poll,
    events: Events,
    alarm: Alarm,
    wakes: Vec<Wake>,
}

struct Timers {
    queue: TimerQueue<Unparker>,
    /// The owner sleeps, or is about to, until the deadline it saw under this lock.
    asleep: bool,
}

impl PollDriver {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let side = PollSide {
            poll,
            events: Events::with_capacity(EVENTS),
            alarm,
            wakes: Vec::new(),
        };
        Ok(Self {
            poll: Mutex::new(side),
            timers: Mutex::new(Timers {
                queue: TimerQueue::new(),
                asleep: false,
            }),
            pending: AtomicUsize::new(0),
            waker,
        })
    }

    /// Begins the wakes of the timers that are due.
    fn expire(&self, wakes: &mut Vec<Wake>) {
        if self.pending.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = Instant::now();
        let mut timers = self.timers.lock();
        let mut expired = 0;
        while let Some((_, unparker)) = timers.queue.pop_expired(now) {
            expired += 1;
            wakes.push(unparker.begin());
        }
        drop(timers);
        self.pending.fetch_sub(expired, Ordering::Relaxed);
    }

    fn finish(wakes: &mut Vec<Wake>) {
        for wake in wakes.drain(..) {
            wake.finish();
        }
    }
}

impl Driver for PollDriver {
    fn park(&self, timeout: Option<Duration>) {
        let mut side = self.poll.lock();
        let side = &mut *side;
        let deadline = {
            let mut timers = self.timers.lock();
            // Under the lock: who arms an earlier timer after this sees `asleep` and wakes us.
            timers.asleep = true;
            timers.queue.next_deadline()
        };
        if let Some(deadline) = deadline {
            side.alarm
                .set(deadline, Instant::now())
                .unwrap_or_else(|error| broken("set an alarm", &error));
        }
        match side.poll.poll(&mut side.events, timeout) {
            Ok(()) => {}
            // A signal: whoever handles it wants the worker to look around.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => broken("poll", &error),
        }
        self.timers.lock().asleep = false;
        let mut wakes = std::mem::take(&mut side.wakes);
        self.expire(&mut wakes);
        Self::finish(&mut wakes);
        side.wakes = wakes;
    }

    fn poll(&self) {
        let Some(mut side) = self.poll.try_lock() else {
            return;
        };
        let mut wakes = std::mem::take(&mut side.wakes);
        self.expire(&mut wakes);
        Self::finish(&mut wakes);
        side.wakes = wakes;
    }

    fn wake(&self) {
        self.waker
            .wake()
            .unwrap_or_else(|error| broken("wake a worker", &error));
    }

    fn arm(&self, deadline: Instant, unparker: Unparker) -> TimerId {
        let mut timers = self.timers.lock();
        let key = timers.queue.insert(deadline, unparker);
        let wake = timers.asleep && timers.queue.next_deadline() == Some(deadline);
        drop(timers);
        self.pending.fetch_add(1, Ordering::Relaxed);
        if wake {
            self.wake();
        }
        TimerId(key.to_bits())
    }

    fn disarm(&self, timer: TimerId) -> bool {
        let disarmed = self
            .timers
            .lock()
            .queue
            .cancel(TimerKey::from_bits(timer.0))
            .is_some();
        if disarmed {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
        disarmed
    }
}

/// The calls on our own poll, eventfd and timerfd do not fail but for a bug of ours: nobody could be woken
/// any more.
#[cold]
fn broken(what: &str, error: &io::Error) -> ! {
    panic!("roving: internal error: could not {what}: {error}")
}
