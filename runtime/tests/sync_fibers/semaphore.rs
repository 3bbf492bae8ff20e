//! Semaphore.

use crate::support::{on_each, until_parked};
use roving_runtime::sync::{AcquireError, Semaphore};
use roving_runtime::{WaitReason, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Waiters of both kinds give up and are woken at the same time: permits are neither lost nor made.
#[test]
fn permits_are_conserved() {
    on_each(|runtime| {
        const PERMITS: usize = 3;
        let semaphore = Arc::new(Semaphore::new(PERMITS));
        let inside = Arc::new(AtomicUsize::new(0));
        let work = |number: u64| {
            let (semaphore, inside) = (semaphore.clone(), inside.clone());
            move || {
                for round in 0..200 {
                    let wanted = 1 + (number as usize + round) % PERMITS;
                    let timeout = Duration::from_micros((number * 37 + round as u64 * 11) % 100);
                    if let Ok(permit) = semaphore.acquire_many_timeout(wanted, timeout) {
                        assert!(inside.fetch_add(wanted, SeqCst) + wanted <= PERMITS);
                        yield_now();
                        inside.fetch_sub(wanted, SeqCst);
                        drop(permit);
                    }
                }
            }
        };
        let fibers: Vec<_> = (0..6).map(|number| runtime.spawn(work(number))).collect();
        let threads: Vec<_> = (6..8).map(|number| std::thread::spawn(work(number))).collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(semaphore.available_permits(), PERMITS);
        semaphore.try_acquire_many(PERMITS).unwrap().forget();
    });
}

/// A permit that is handed to one that is being cancelled is not lost.
#[test]
fn cancelled_while_being_granted() {
    on_each(|runtime| {
        for _ in 0..100 {
            let semaphore = Arc::new(Semaphore::new(0));
            let waiter = runtime.spawn({
                let semaphore = semaphore.clone();
                move || {
                    semaphore
                        .acquire()
                        .map(roving_runtime::sync::Permit::forget)
                        .is_ok()
                }
            });
            until_parked(runtime, WaitReason::Semaphore, 1);
            let canceller = std::thread::spawn({
                let waiter = waiter.fiber();
                move || waiter.cancel()
            });
            semaphore.add_permits(1);
            let acquired = waiter.join().unwrap();
            canceller.join().unwrap();
            assert_eq!(semaphore.available_permits(), usize::from(!acquired));
        }
    });
}

#[test]
fn closing_a_semaphore_frees_all_that_wait() {
    on_each(|runtime| {
        let semaphore = Arc::new(Semaphore::new(1));
        let waiters: Vec<_> = (0..100)
            .map(|_| {
                let semaphore = semaphore.clone();
                runtime.spawn(move || semaphore.acquire_many(2).map(drop))
            })
            .collect();
        until_parked(runtime, WaitReason::Semaphore, 100);
        semaphore.close();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(AcquireError::Closed));
        }
    });
}
