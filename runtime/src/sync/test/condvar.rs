use super::{LONG, SHORT, panics};
use crate::sync::{ConditionError, Condvar, Mutex};
use std::thread;

#[test]
fn a_notification_ends_a_wait() {
    let (mutex, changed) = (Mutex::new(false), Condvar::new());
    thread::scope(|s| {
        let waiter = s.spawn(|| {
            let guard = mutex.lock().unwrap();
            *changed.wait_while(guard, |ready| !*ready).unwrap()
        });
        *mutex.lock().unwrap() = true;
        changed.notify_one();
        assert!(waiter.join().unwrap());
    });
}

/// Each takes its turn in the queue under the mutex, so their order is known.
#[test]
fn the_first_to_wait_is_the_first_to_be_notified() {
    let (mutex, changed) = (Mutex::new(Vec::new()), Condvar::new());
    let waiting = Mutex::new(0);
    thread::scope(|s| {
        for number in 0..3 {
            let (mutex, changed, waiting) = (&mutex, &changed, &waiting);
            s.spawn(move || {
                let guard = mutex.lock().unwrap();
                *waiting.lock().unwrap() = number + 1;
                changed.wait(guard).unwrap().push(number);
            });
            // Who holds the mutex after it said so has let it wait.
            super::until(|| *waiting.lock().unwrap() == number + 1 && mutex.lock().is_ok());
        }
        for count in 1..=3 {
            assert!(changed.notify_one());
            super::until(|| mutex.lock().unwrap().len() == count);
        }
        assert!(!changed.notify_one());
    });
    assert_eq!(mutex.into_inner().unwrap(), [0, 1, 2]);
}

#[test]
fn timeouts() {
    let (mutex, changed) = (Mutex::new(0), Condvar::new());
    let guard = mutex.lock().unwrap();
    let (guard, notified) = changed.wait_timeout(guard, SHORT).unwrap();
    assert!(!notified);
    let (guard, notified) = changed.wait_deadline(guard, std::time::Instant::now()).unwrap();
    assert!(!notified);
    let (guard, in_time) = changed.wait_timeout_while(guard, SHORT, |_| true).unwrap();
    assert!(!in_time);
    let (guard, in_time) = changed.wait_timeout_while(guard, LONG, |_| false).unwrap();
    assert!(in_time);
    drop(guard);
    // Those who timed out do not use up notifications.
    assert!(!changed.notify_one());
}

#[test]
fn the_mutex_is_free_meanwhile_and_held_after() {
    let (mutex, changed) = (Mutex::new(0), Condvar::new());
    thread::scope(|s| {
        let guard = mutex.lock().unwrap();
        s.spawn(|| {
            *mutex.lock().unwrap() = 1;
            changed.notify_all();
        });
        let guard = changed.wait_while(guard, |value| *value == 0).unwrap();
        assert!(mutex.try_lock().is_err());
        drop(guard);
    });
}

#[test]
fn poison_shows_after_the_wait() {
    let (mutex, changed) = (Mutex::new(0), Condvar::new());
    thread::scope(|s| {
        let guard = mutex.lock().unwrap();
        s.spawn(|| {
            panics(|| {
                let _guard = mutex.lock().unwrap();
                changed.notify_one();
                panic!("half way");
            });
        });
        let Err(ConditionError::Poisoned(guard)) = changed.wait(guard) else {
            panic!("it is poisoned")
        };
        assert!(mutex.try_lock().is_err());
        drop(guard);
    });
}
