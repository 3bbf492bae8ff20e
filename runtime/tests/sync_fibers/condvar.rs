//! Condvar.

use crate::support::{LONG, SHORT, on_each, until, until_parked};
use roving_runtime::WaitReason;
use roving_runtime::sync::{ConditionError, Condvar, LockTimeoutError, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

#[test]
fn a_condition_between_fibers_and_threads() {
    on_each(|runtime| {
        let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new(), Condvar::new()));
        let produce = || {
            let shared = shared.clone();
            move || {
                let (items, filled, emptied) = &*shared;
                for item in 0..200 {
                    let guard = items.lock().unwrap();
                    let mut items = emptied.wait_while(guard, |items| items.len() >= 4).unwrap();
                    items.push(item);
                    filled.notify_one();
                }
            }
        };
        let consume = || {
            let shared = shared.clone();
            move || {
                let (items, filled, emptied) = &*shared;
                let mut sum = 0;
                for _ in 0..200 {
                    let guard = items.lock().unwrap();
                    let mut items = filled.wait_while(guard, |items| items.is_empty()).unwrap();
                    sum += items.pop().unwrap();
                    emptied.notify_one();
                }
                sum
            }
        };
        let producers: Vec<_> = (0..2).map(|_| runtime.spawn(produce())).collect();
        let thread = std::thread::spawn(produce());
        let consumers: Vec<_> = (0..2).map(|_| runtime.spawn(consume())).collect();
        let consumer = std::thread::spawn(consume());
        producers
            .into_iter()
            .for_each(|producer| producer.join().unwrap());
        thread.join().unwrap();
        let sum: u32 = consumers
            .into_iter()
            .map(|consumer| consumer.join().unwrap())
            .sum();
        assert_eq!(sum + consumer.join().unwrap(), 3 * (0..200).sum::<u32>());
    });
}

#[test]
fn a_cancelled_wait_for_a_condition_gives_the_guard_back() {
    on_each(|runtime| {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let waiter = runtime.spawn({
            let shared = shared.clone();
            move || {
                let guard = shared.0.lock().unwrap();
                let Err(ConditionError::Cancelled(mut guard)) = shared.1.wait(guard) else {
                    panic!("it is cancelled")
                };
                *guard = 1;
                // The next is cancelled before it begins, and does not let go of the mutex meanwhile.
                let Err(ConditionError::Cancelled(guard)) = shared.1.wait(guard) else {
                    panic!("it is cancelled")
                };
                assert_eq!(*guard, 1);
            }
        });
        until_parked(runtime, WaitReason::Condvar, 1);
        // While the mutex is held it cannot come back, cancelled or not.
        let guard = shared.0.lock().unwrap();
        waiter.cancel();
        until_parked(runtime, WaitReason::Mutex, 1);
        assert_eq!(*guard, 0);
        drop(guard);
        waiter.join().unwrap();
        assert!(!shared.1.notify_one(), "it does not wait any more");
    });
}

/// A notification that meets a cancellation goes to one of those that still wait.
#[test]
fn cancelled_while_being_notified() {
    on_each(|runtime| {
        for _ in 0..100 {
            let shared = Arc::new((Mutex::new(()), Condvar::new()));
            let wait = || {
                let shared = shared.clone();
                runtime.spawn(move || shared.1.wait(shared.0.lock().unwrap()).map(drop).is_ok())
            };
            let first = wait();
            until_parked(runtime, WaitReason::Condvar, 1);
            let second = wait();
            until_parked(runtime, WaitReason::Condvar, 2);
            let canceller = std::thread::spawn({
                let first = first.fiber();
                move || first.cancel()
            });
            shared.1.notify_one();
            let notified = first.join().unwrap();
            canceller.join().unwrap();
            if notified {
                shared.1.notify_one();
            }
            assert!(second.join().unwrap());
        }
    });
}

#[test]
fn timeouts_of_fibers() {
    on_each(|runtime| {
        let mutex = Arc::new((Mutex::new(0), Condvar::new()));
        let guard = mutex.0.lock().unwrap();
        let timed_out = Arc::new(AtomicBool::new(false));
        let fiber = runtime.spawn({
            let (mutex, timed_out) = (mutex.clone(), timed_out.clone());
            move || {
                assert!(matches!(
                    mutex.0.lock_timeout(SHORT),
                    Err(LockTimeoutError::TimedOut)
                ));
                timed_out.store(true, SeqCst);
                let guard = mutex.0.lock_timeout(LONG).unwrap();
                let (guard, notified) = mutex.1.wait_timeout(guard, SHORT).unwrap();
                assert!(!notified);
                drop(guard);
            }
        });
        until(|| timed_out.load(SeqCst));
        drop(guard);
        fiber.join().unwrap();
    });
}
