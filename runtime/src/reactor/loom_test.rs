//! Models of the two protocols of this room: readiness (event, EAGAIN, wait, close) and the seat at the poll.
//! What the kernel does is played by a lock and a condition variable: edge-triggered, as epoll.

use super::error::WaitError;
use super::readiness::{Direction, Entered, Event, Left, Proof, Readiness, Registration, ToUnready};
use super::seat::{Found, Seat, Selector};
use crate::fiber::parker::{Parker, ThreadParker, Wake};
use crate::fiber::wait_list::WaitNode;
use crate::loom::sync::atomic::{AtomicBool, Ordering, fence};
use crate::loom::sync::{Arc, Condvar, Mutex};
use crate::loom::thread;
use std::io;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// A descriptor in the kernel, watched by one poll.
#[derive(Default)]
struct Kernel {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    data: u32,
    armed: bool,
    /// An event is in the poll's queue.
    event: bool,
    stop: bool,
}

impl Kernel {
    fn write(&self) {
        let mut state = self.state.lock();
        state.data += 1;
        state.event |= state.armed;
        self.changed.notify_all();
    }

    /// Takes all there is; none is EAGAIN.
    fn read(&self) -> u32 {
        std::mem::take(&mut self.state.lock().data)
    }

    fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Hands events over until told to stop: a worker asleep in its poll.
    fn poll(&self, readiness: &Readiness<Place>) {
        loop {
            {
                let mut state = self.state.lock();
                while !state.event && !state.stop {
                    self.changed.wait_until(&mut state, None);
                }
                if !std::mem::take(&mut state.event) {
                    return;
                }
            }
            let mut wakes = Vec::new();
            readiness.notify(Event::READ, &mut wakes);
            wakes.into_iter().for_each(Wake::finish);
        }
    }
}

struct Place(Arc<Kernel>);

impl Registration for Place {
    fn arm(&mut self, _: Direction, _: bool) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if !state.armed {
            state.armed = true;
            // A registration reports what is ready already.
            state.event |= state.data != 0;
            self.0.changed.notify_all();
        }
        Ok(())
    }

    fn waiters_changed(&mut self, _: usize) {}

    fn disarm(&mut self) {}
}

fn parker() -> Parker {
    Parker::Thread(Arc::new(ThreadParker::new()))
}

/// Reads until `wanted` bytes have come; what a fiber does on a stream.
fn read(kernel: &Kernel, readiness: &Readiness<Place>, wanted: u32, short: bool) -> Result<u32, WaitError> {
    let parker = parker();
    let mut total = 0;
    while total < wanted {
        let seen = readiness.load();
        if seen.is_closed() {
            return Err(WaitError::Closed);
        }
        if seen.is_ready(Direction::Read) {
            let count = kernel.read();
            total += count;
            if count == 0 {
                if readiness.unready(seen, Direction::Read, Proof::Refused) == ToUnready::StillReady {
                    continue;
                }
            } else {
                if short {
                    let _ = readiness.unready(seen, Direction::Read, Proof::Short);
                }
                continue;
            }
        }
        readiness.wait(Direction::Read, &parker, None)?;
    }
    Ok(total)
}

fn setup(assumed: bool) -> (Arc<Kernel>, Arc<Readiness<Place>>) {
    let kernel = Arc::new(Kernel::default());
    (kernel.clone(), Arc::new(Readiness::new(assumed, Place(kernel))))
}

fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().spawn(body).expect("a thread of the model")
}

fn no_event_is_lost(short: bool) {
    loom::model(move || {
        let (kernel, readiness) = setup(true);
        let writer = spawn({
            let kernel = kernel.clone();
            move || (0..2).for_each(|_| kernel.write())
        });
        let poller = spawn({
            let (kernel, readiness) = (kernel.clone(), readiness.clone());
            move || kernel.poll(&readiness)
        });
        assert_eq!(read(&kernel, &readiness, 2, short).expect("nobody closes it"), 2);
        kernel.stop();
        writer.join().expect("it does not panic");
        poller.join().expect("it does not panic");
    });
}

/// An event between the call that failed and the wait, or before the registration, ends the wait.
#[test]
fn loom_no_event_is_lost() {
    no_event_is_lost(false);
}

/// The same when short reads stand for the call that would fail.
#[test]
fn loom_no_event_is_lost_after_short_reads() {
    no_event_is_lost(true);
}

/// Two fibers read one stream: both wake, each byte goes to one of them.
#[test]
fn loom_two_waiters_both_wake() {
    loom::model(|| {
        let (kernel, readiness) = setup(false);
        let waiter = {
            let readiness = readiness.clone();
            move || readiness.wait(Direction::Read, &parker(), None)
        };
        let other = spawn(waiter.clone());
        let notifier = spawn({
            let readiness = readiness.clone();
            move || {
                let mut wakes = Vec::new();
                readiness.notify(Event::READ, &mut wakes);
                wakes.into_iter().for_each(Wake::finish);
            }
        });
        waiter().expect("it is ready");
        other.join().expect("it does not panic").expect("it is ready");
        notifier.join().expect("it does not panic");
        kernel.stop();
    });
}

/// A close ends a wait, whenever it comes, and an event at the same time does no harm.
#[test]
fn loom_close_ends_waits() {
    loom::model(|| {
        let (kernel, readiness) = setup(true);
        let closer = spawn({
            let readiness = readiness.clone();
            move || {
                let mut wakes = Vec::new();
                let _ = readiness.close(&mut wakes);
                wakes.into_iter().for_each(Wake::finish);
            }
        });
        let notifier = spawn({
            let readiness = readiness.clone();
            move || {
                let mut wakes = Vec::new();
                readiness.notify(Event::READ, &mut wakes);
                wakes.into_iter().for_each(Wake::finish);
            }
        });
        assert!(matches!(
            read(&kernel, &readiness, 1, false),
            Err(WaitError::Closed)
        ));
        closer.join().expect("it does not panic");
        notifier.join().expect("it does not panic");
    });
}

/// One that gives up either leaves before the event, or knows that it was woken; its node is then in no list.
#[test]
fn loom_giving_up_races_with_the_event() {
    loom::model(|| {
        let (_, readiness) = setup(false);
        let notifier = spawn({
            let readiness = readiness.clone();
            move || {
                let mut wakes = Vec::new();
                readiness.notify(Event::READ, &mut wakes);
                wakes.into_iter().map(Wake::finish).count()
            }
        });
        let node = Box::new(WaitNode::new(parker().unparker()));
        // SAFETY: the box lives until the node has left, below.
        let entered = unsafe { readiness.enter(Direction::Read, NonNull::from(&*node), true) };
        let woken = match entered.expect("nobody closes it") {
            Entered::Ready => 0,
            Entered::Waiting => {
                // SAFETY: it was entered above and is alive.
                match unsafe { readiness.leave(Direction::Read, NonNull::from(&*node)) } {
                    Left::WasWoken => 1,
                    Left::Early => 0,
                }
            }
        };
        drop(node);
        assert_eq!(notifier.join().expect("it does not panic"), woken);
        assert!(readiness.load().is_ready(Direction::Read));
    });
}

/// A poll with a waker and one descriptor that somebody waits for.
#[derive(Default)]
struct Poll {
    state: Mutex<PollState>,
    changed: Condvar,
}

#[derive(Default)]
struct PollState {
    woken: bool,
    event: Option<Arc<ThreadParker>>,
}

struct ModelSelector(Arc<Poll>);

impl Selector for ModelSelector {
    fn select(&mut self, timeout: Option<Duration>, found: &mut Found) {
        let mut state = self.0.state.lock();
        while timeout.is_none() && !state.woken && state.event.is_none() {
            self.0.changed.wait_until(&mut state, None::<Instant>);
        }
        found.woken |= std::mem::take(&mut state.woken);
        found.wakes.extend(state.event.take().map(Wake::Thread));
    }
}

impl Poll {
    fn change(&self, change: impl FnOnce(&mut PollState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }
}

fn carry_out(found: &mut Found) {
    found.wakes.drain(..).for_each(Wake::finish);
}

/// The owner falls asleep while a producer fills its inbox and wakes it, and another thread looks at the poll:
/// the wake may be taken by that look, and must still end the sleep.
#[test]
fn loom_a_glance_takes_no_wake_away() {
    loom::model(|| {
        let poll = Arc::new(Poll::default());
        let seat = Arc::new(Seat::new(ModelSelector(poll.clone())));
        let (asleep, inbox) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let producer = spawn({
            let (poll, asleep, inbox) = (poll.clone(), asleep.clone(), inbox.clone());
            move || {
                inbox.store(true, Ordering::Release);
                // The sleep protocol's, as in `scheduler::idle`.
                fence(Ordering::SeqCst);
                if asleep.load(Ordering::Relaxed) {
                    poll.change(|state| state.woken = true);
                }
            }
        });
        let other = spawn({
            let seat = seat.clone();
            move || {
                let mut found = Found::default();
                seat.glance(&mut found);
                carry_out(&mut found);
            }
        });
        loop {
            asleep.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if inbox.load(Ordering::Acquire) {
                break;
            }
            let mut found = Found::default();
            seat.sleep(None, |_| {}, &mut found);
            carry_out(&mut found);
            asleep.store(false, Ordering::Relaxed);
        }
        producer.join().expect("it does not panic");
        other.join().expect("it does not panic");
    });
}

/// An event wakes its waiter, whether the owner or another thread finds it, and a wake that comes at the same
/// time still ends the owner's sleep.
#[test]
fn loom_an_event_is_carried_out_by_whoever_polls() {
    loom::model(|| {
        let poll = Arc::new(Poll::default());
        let seat = Arc::new(Seat::new(ModelSelector(poll.clone())));
        let waiter = Arc::new(ThreadParker::new());
        let done = Arc::new(AtomicBool::new(false));
        let owner = spawn({
            let (seat, done) = (seat.clone(), done.clone());
            move || {
                while !done.load(Ordering::Acquire) {
                    let mut found = Found::default();
                    seat.sleep(None, |_| {}, &mut found);
                    carry_out(&mut found);
                }
            }
        });
        let other = spawn({
            let seat = seat.clone();
            move || {
                let mut found = Found::default();
                seat.glance(&mut found);
                carry_out(&mut found);
            }
        });
        poll.change(|state| state.event = Some(waiter.clone()));
        let _ = waiter.park(None);
        done.store(true, Ordering::Release);
        poll.change(|state| state.woken = true);
        owner.join().expect("it does not panic");
        other.join().expect("it does not panic");
    });
}
