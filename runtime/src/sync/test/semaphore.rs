use super::{LONG, SHORT, panics, until};
use crate::sync::{AcquireError, AcquireTimeoutError, Mutex, Semaphore, TryAcquireError};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

#[test]
fn no_more_at_once_than_there_are_permits() {
    let semaphore = Semaphore::new(2);
    let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|s| {
        for _ in 0..5 {
            s.spawn(|| {
                for _ in 0..500 {
                    let _permit = semaphore.acquire().unwrap();
                    most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                    thread::yield_now();
                    inside.fetch_sub(1, SeqCst);
                }
            });
        }
    });
    assert_eq!(most.into_inner(), 2);
    assert_eq!(semaphore.available_permits(), 2);
}

#[test]
fn first_come_first_served_whatever_they_want() {
    let semaphore = Semaphore::new(0);
    let order = Mutex::new(Vec::new());
    thread::scope(|s| {
        for (place, permits) in [(1, 3), (2, 1), (3, 2)] {
            let (semaphore, order) = (&semaphore, &order);
            s.spawn(move || {
                let permit = semaphore.acquire_many(permits).unwrap();
                order.lock().unwrap().push(permits);
                permit.forget();
            });
            until(|| semaphore.waiting() == place);
        }
        // The second and third could have gone by now, but are not first.
        semaphore.add_permits(2);
        assert!(matches!(semaphore.try_acquire(), Err(TryAcquireError::NoPermits)));
        assert_eq!(semaphore.waiting(), 3);
        semaphore.add_permits(1);
        until(|| order.lock().unwrap().len() == 1);
        semaphore.add_permits(1);
        until(|| order.lock().unwrap().len() == 2);
        semaphore.add_permits(2);
    });
    assert_eq!(order.into_inner().unwrap(), [3, 1, 2]);
    assert_eq!(semaphore.available_permits(), 0);
}

#[test]
fn those_behind_one_that_gives_up_go_on() {
    let semaphore = Semaphore::new(1);
    thread::scope(|s| {
        let greedy = s.spawn(|| semaphore.acquire_many_timeout(2, SHORT * 10).is_err());
        until(|| semaphore.waiting() == 1 || greedy.is_finished());
        // There is a permit for it all the while.
        let modest = s.spawn(|| semaphore.acquire_timeout(LONG).map(crate::sync::Permit::forget));
        assert_eq!(modest.join().unwrap(), Ok(()));
        assert!(greedy.join().unwrap());
    });
    assert_eq!(semaphore.available_permits(), 0);
}

#[test]
fn closing() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.acquire().unwrap();
    thread::scope(|s| {
        let waiters: Vec<_> = (0..40)
            .map(|_| s.spawn(|| semaphore.acquire().map(drop)))
            .collect();
        until(|| semaphore.waiting() == 40);
        assert!(semaphore.close());
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(AcquireError::Closed));
        }
    });
    assert!(!semaphore.close());
    assert!(semaphore.is_closed());
    drop(permit);
    assert_eq!(semaphore.available_permits(), 1);
    assert!(matches!(semaphore.try_acquire(), Err(TryAcquireError::Closed)));
    assert!(matches!(
        semaphore.acquire_timeout(LONG),
        Err(AcquireTimeoutError::Closed)
    ));
}

#[test]
fn counting() {
    let semaphore = Semaphore::new(3);
    let permit = semaphore.try_acquire_many(2).unwrap();
    assert_eq!((permit.permits(), semaphore.available_permits()), (2, 1));
    assert!(matches!(
        semaphore.acquire_many_deadline(2, std::time::Instant::now()),
        Err(AcquireTimeoutError::TimedOut)
    ));
    drop(permit);
    semaphore.acquire_many(2).unwrap().forget();
    assert_eq!(semaphore.available_permits(), 1);
    drop(semaphore.acquire_many(0).unwrap());
    semaphore.add_permits(1);
    assert_eq!(semaphore.available_permits(), 2);
}

#[test]
fn more_permits_than_can_be_counted() {
    let semaphore = Semaphore::new(Semaphore::MAX_PERMITS);
    panics(|| semaphore.add_permits(1));
    panics(|| semaphore.add_permits(usize::MAX));
    assert_eq!(semaphore.available_permits(), Semaphore::MAX_PERMITS);
    panics(|| _ = Semaphore::new(Semaphore::MAX_PERMITS + 1));
    // More than there can ever be: refused for now, not taken for few.
    assert!(matches!(
        semaphore.try_acquire_many(usize::MAX),
        Err(TryAcquireError::NoPermits)
    ));
}
