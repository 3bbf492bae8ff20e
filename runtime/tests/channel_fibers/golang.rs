//! What Go's tests of channels check (`runtime/chan_test.go`, `test/chan/*.go`), in our own words.

use crate::support::{on_each, until_parked};
use roving_runtime::sync::channel::{
    RecvError, Sender, TryRecvError, TrySendError, bounded, rendezvous, unbounded,
};
use roving_runtime::{Runtime, WaitReason, current_fiber, spawn, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// `TestChan`: at every capacity, receivers wait for values, senders for room, and order is kept.
#[test]
fn channels_of_every_size() {
    on_each(|runtime| {
        for capacity in [0, 1, 2, 10, 100] {
            let (sender, receiver) = bounded(capacity);
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
            let blocked = runtime.spawn({
                let receiver = receiver.clone();
                move || receiver.recv()
            });
            until_parked(runtime, WaitReason::Recv, 1);
            sender.send(0).unwrap();
            assert_eq!(blocked.join().unwrap(), Ok(0));

            for value in 0..capacity {
                sender.try_send(value).unwrap();
            }
            assert_eq!((sender.len(), sender.capacity()), (capacity, Some(capacity)));
            assert_eq!(sender.try_send(0), Err(TrySendError::Full(0)));
            let blocked = runtime.spawn({
                let sender = sender.clone();
                move || sender.send(capacity)
            });
            until_parked(runtime, WaitReason::Send, 1);
            assert!((0..=capacity).all(|value| receiver.recv() == Ok(value)));
            blocked.join().unwrap().unwrap();

            (0..capacity).for_each(|value| sender.send(value).unwrap());
            sender.close();
            assert!((0..capacity).all(|value| receiver.recv() == Ok(value)));
            assert_eq!(receiver.recv(), Err(RecvError::Closed));
        }
    });
}

/// The second half of `TestChan`: many senders, many receivers, each value once.
#[test]
fn every_value_of_every_sender_arrives_once() {
    on_each(|runtime| {
        const ENDS: usize = 10;
        const VALUES: usize = 100;
        for capacity in [0, 3, 1000] {
            let (sender, receiver) = bounded(capacity);
            let senders: Vec<_> = (0..ENDS)
                .map(|_| {
                    let sender = sender.clone();
                    runtime.spawn(move || (0..VALUES).for_each(|value| sender.send(value).unwrap()))
                })
                .collect();
            let receivers: Vec<_> = (0..ENDS)
                .map(|_| {
                    let receiver = receiver.clone();
                    runtime.spawn(move || {
                        let mut last = [None; VALUES];
                        for _ in 0..VALUES {
                            let value = receiver.recv().unwrap();
                            last[value] = Some(last[value].unwrap_or(0) + 1);
                        }
                        last
                    })
                })
                .collect();
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            let mut counts = [0; VALUES];
            for receiver in receivers {
                for (count, seen) in counts.iter_mut().zip(receiver.join().unwrap()) {
                    *count += seen.unwrap_or(0);
                }
            }
            assert_eq!(counts, [ENDS; VALUES]);
        }
    });
}

/// `TestNonblockRecvRace`: a value that is there is found, though the channel is being closed.
#[test]
fn a_value_is_found_while_the_channel_closes() {
    on_each(|runtime| {
        for _ in 0..300 {
            let (sender, receiver) = bounded(1);
            sender.send(1).unwrap();
            let found = runtime.spawn({
                let receiver = receiver.clone();
                move || receiver.try_recv()
            });
            sender.close();
            let here = receiver.try_recv();
            let there = found.join().unwrap();
            assert!(
                (here == Ok(1)) != (there == Ok(1))
                    && here != Err(TryRecvError::Empty)
                    && there != Err(TryRecvError::Empty),
                "{here:?} {there:?}"
            );
        }
    });
}

/// `TestMultiConsumer`: a stage of workers between a producer and the sum.
#[test]
fn a_stage_of_workers() {
    on_each(|runtime| {
        const WORKERS: usize = 13;
        let primes = [2, 3, 7, 11, 13, 17, 19, 23, 27, 31];
        let (jobs, queue) = bounded::<usize>(WORKERS);
        let (results, done) = rendezvous();
        for _ in 0..WORKERS {
            let (queue, results) = (queue.clone(), results.clone());
            runtime.spawn(move || {
                for job in &queue {
                    if primes[job % primes.len()] == job {
                        yield_now();
                    }
                    results.send(job).unwrap();
                }
            });
        }
        drop(results);
        let producer = runtime.spawn(move || {
            let values = (0..1000).map(|number| primes[number % primes.len()]);
            values.inspect(|value| jobs.send(*value).unwrap()).sum::<usize>()
        });
        assert_eq!(done.iter().sum::<usize>(), producer.join().unwrap());
    });
}

/// `fifo.go`: a chain of rendezvous keeps those who wait in order.
#[test]
fn first_in_first_out_through_a_chain() {
    on_each(|runtime| {
        const FIBERS: usize = 10;
        let (first, mut receiver) = rendezvous::<()>();
        let order = Arc::new(AtomicUsize::new(0));
        let fibers: Vec<_> = (0..FIBERS)
            .map(|number| {
                let (next, from_next) = rendezvous();
                let previous = std::mem::replace(&mut receiver, from_next);
                let order = order.clone();
                runtime.spawn(move || {
                    previous.recv().unwrap();
                    assert_eq!(order.fetch_add(1, SeqCst), number);
                    // The last one has nobody after it.
                    let _ = next.send(());
                })
            })
            .collect();
        first.send(()).unwrap();
        drop(receiver);
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    });
}

/// `goroutines.go`: a value through ten thousand fibers that all wait.
#[test]
fn a_chain_of_ten_thousand() {
    on_each(|runtime| {
        let (first, mut from_last) = rendezvous::<u32>();
        for _ in 0..10_000 {
            let (sender, receiver) = rendezvous();
            let previous = std::mem::replace(&mut from_last, receiver);
            runtime.spawn(move || sender.send(previous.recv().unwrap() + 1).unwrap());
        }
        first.send(0).unwrap();
        assert_eq!(from_last.recv(), Ok(10_000));
    });
}

/// `sieve1.go`: the prime sieve.
#[test]
fn the_prime_sieve() {
    on_each(|runtime| {
        let (candidates, mut receiver) = rendezvous::<u32>();
        runtime.spawn(move || (2..).take_while(|&n| candidates.send(n).is_ok()).for_each(drop));
        let mut primes = Vec::new();
        for _ in 0..40 {
            let prime = receiver.recv().unwrap();
            primes.push(prime);
            let (sender, next) = rendezvous();
            let previous = std::mem::replace(&mut receiver, next);
            runtime.spawn(move || {
                previous
                    .iter()
                    .filter(|n| n % prime != 0)
                    .take_while(|&n| sender.send(n).is_ok())
                    .for_each(drop);
            });
        }
        assert_eq!((primes[0], primes[9], primes[39]), (2, 29, 173));
    });
}

/// `perm.go` is the compiler's affair in Rust; values of no size are not.
#[test]
fn values_of_no_size() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (sender, receiver) = unbounded();
    let count = runtime.spawn(move || receiver.iter().count());
    (0..2000).for_each(|_| sender.send(()).unwrap());
    drop(sender);
    assert_eq!(count.join().unwrap(), 2000);
}

/// A channel is a lock, as in Effective Go.
#[test]
fn a_channel_as_a_lock() {
    on_each(|runtime| {
        let (lock, unlock) = bounded(1);
        let inside = Arc::new(AtomicUsize::new(0));
        let fibers: Vec<_> = (0..10)
            .map(|_| {
                let (lock, unlock, inside) = (lock.clone(), unlock.clone(), inside.clone());
                runtime.spawn(move || {
                    for _ in 0..100 {
                        lock.send(()).unwrap();
                        assert_eq!(inside.fetch_add(1, SeqCst), 0);
                        yield_now();
                        inside.fetch_sub(1, SeqCst);
                        unlock.recv().unwrap();
                    }
                })
            })
            .collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    });
}

/// Recursion with a channel per call.
#[test]
fn fibonacci_by_channels() {
    fn fib(n: u32, to: Sender<u64>) {
        if n < 2 {
            return to.send(u64::from(n)).unwrap();
        }
        let (sender, receiver) = rendezvous();
        for less in [1, 2] {
            let sender = sender.clone();
            spawn(move || fib(n - less, sender));
        }
        drop(sender);
        to.send(receiver.iter().sum()).unwrap();
    }
    on_each(|runtime| {
        let (sender, receiver) = rendezvous();
        runtime.spawn(move || {
            assert!(current_fiber().is_some());
            fib(15, sender);
        });
        assert_eq!(receiver.recv(), Ok(610));
    });
}
