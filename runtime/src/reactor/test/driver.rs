//! The driver's timers, and the seat at its poll.

use crate::fiber::TimerId;
use crate::fiber::clock::TimeSource;
use crate::fiber::parker::{Parker, ThreadParker, Unparker, Wake};
use crate::reactor::PollDriver;
use crate::reactor::seat::{Found, Seat, Selector};
use crate::scheduler::driver::Driver;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Counts its wakes.
#[derive(Default)]
struct Counter(AtomicUsize);

impl std::task::Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn counting(counter: &Arc<Counter>) -> Unparker {
    Unparker::Future(counter.clone().into())
}

#[test]
fn due_timers_fire_in_portions() {
    let driver = PollDriver::new(Arc::new(TimeSource::new())).expect("a poll");
    let counter = Arc::new(Counter::default());
    let now = Instant::now();
    for _ in 0..1500 {
        driver.arm(now, counting(&counter));
    }
    driver.poll();
    let first = counter.0.load(Ordering::Relaxed);
    assert!(
        0 < first && first < 1500,
        "a flood of timers leaves room for others: {first}"
    );
    // With more due, sleep does not last.
    driver.park(None);
    driver.poll();
    assert_eq!(counter.0.load(Ordering::Relaxed), 1500);
}

#[test]
fn a_sleep_ends_for_a_timer_a_wake_and_a_timeout() {
    let driver = PollDriver::new(Arc::new(TimeSource::new())).expect("a poll");
    let counter = Arc::new(Counter::default());
    driver.arm(Instant::now() + Duration::from_micros(100), counting(&counter));
    while counter.0.load(Ordering::Relaxed) == 0 {
        driver.park(None);
    }
    driver.wake();
    driver.park(None);
    driver.park(Some(Duration::from_millis(1)));
    let disarmed = driver.arm(Instant::now(), counting(&counter));
    assert!(driver.disarm(disarmed));
    assert!(!driver.disarm(disarmed));
    driver.poll();
    assert_eq!(counter.0.load(Ordering::Relaxed), 1);
}

/// A waker whose drop calls off another timer, as that of a future's last owner may.
struct Chain(Arc<PollDriver>, TimerId, Arc<Counter>);

impl std::task::Wake for Chain {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Chain {
    fn drop(&mut self) {
        assert!(self.0.disarm(self.1));
        self.2.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_waker_is_dropped_without_the_lock() {
    let driver = Arc::new(PollDriver::new(Arc::new(TimeSource::new())).expect("a poll"));
    let counter = Arc::new(Counter::default());
    let later = Instant::now() + Duration::from_secs(600);
    let other = driver.arm(later, counting(&counter));
    let chain = Arc::new(Chain(driver.clone(), other, counter.clone()));
    let timer = driver.arm(later, Unparker::Future(chain.into()));
    assert!(driver.disarm(timer));
    assert_eq!(counter.0.load(Ordering::Relaxed), 1);
}

#[test]
fn an_earlier_timer_shortens_the_sleep() {
    let driver = Arc::new(PollDriver::new(Arc::new(TimeSource::new())).expect("a poll"));
    let parker = Parker::Thread(Arc::new(ThreadParker::new()));
    driver.arm(Instant::now() + Duration::from_secs(600), parker.unparker());
    let sleeper = std::thread::spawn({
        let driver = driver.clone();
        // Woken to look at its timers again, and then by the earlier one.
        move || (0..2).for_each(|_| driver.park(None))
    });
    let counter = Arc::new(Counter::default());
    driver.arm(Instant::now() + Duration::from_millis(1), counting(&counter));
    // If it slept only after the timer was armed, it slept once.
    while counter.0.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    driver.wake();
    sleeper.join().expect("no panic");
}

/// Finds a wake, once.
struct OneWake(bool);

impl Selector for OneWake {
    fn select(&mut self, timeout: Option<Duration>, found: &mut Found) {
        if std::mem::take(&mut self.0) {
            found.woken = true;
        } else {
            assert!(timeout.is_some(), "the owner sleeps although it was woken");
        }
    }
}

#[test]
fn a_glance_owes_the_owner_the_wake_it_took() {
    let seat = Seat::new(OneWake(true));
    let mut found = Found::default();
    seat.glance(&mut found);
    assert!(!found.woken);
    seat.sleep(None, |_| {}, &mut found);
    assert!(found.wakes.drain(..).map(Wake::finish).count() == 0);
}

#[test]
fn nobody_waits_for_the_seat_but_the_owner() {
    let seat = Seat::new(OneWake(false));
    let mut found = Found::default();
    let mut glanced = false;
    seat.sleep(
        Some(Duration::ZERO),
        |_| {
            // The owner sits there: another goes on without.
            seat.glance(&mut Found::default());
            glanced = true;
        },
        &mut found,
    );
    assert!(glanced);
}
