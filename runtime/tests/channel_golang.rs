//! What Go's tests of channels and select check (`runtime/chan_test.go`, `test/chan/*.go`), in our own words.

mod sync_support;

use roving_runtime::sync::channel::{
    Receiver, RecvError, Select, Sender, TryRecvError, TrySendError, bounded, rendezvous, unbounded,
};
use roving_runtime::{Runtime, WaitReason, current_fiber, spawn, yield_now};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use sync_support::{on_each, until_parked};

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

/// `TestNonblockSelectRace`: of two channels one always has a value, if one looks at both at one moment.
#[test]
fn a_select_that_does_not_wait_sees_all_at_one_moment() {
    on_each(|runtime| {
        for _ in 0..300 {
            let ((first, from_first), (second, from_second)) = (bounded(1), bounded(1));
            first.send(1).unwrap();
            let looker = runtime.spawn({
                let (from_first, from_second) = (from_first.clone(), from_second.clone());
                move || {
                    let mut select = Select::new();
                    select.recv(&from_first);
                    select.recv(&from_second);
                    select.try_wait().is_ok()
                }
            });
            second.send(1).unwrap();
            let _ = from_first.try_recv();
            assert!(looker.join().unwrap());
        }
    });
}

/// `TestSelfSelect`: two that offer both ends of one channel deal with one another, never with themselves.
#[test]
fn selects_on_both_ends_of_one_channel() {
    on_each(|runtime| {
        const ROUNDS: usize = 300;
        for capacity in [0, 10] {
            let (sender, receiver) = bounded(capacity);
            let parties: Vec<_> = (0..2)
                .map(|me| {
                    let (sender, receiver) = (sender.clone(), receiver.clone());
                    runtime.spawn(move || {
                        for round in 0..ROUNDS {
                            let mut select = Select::new();
                            // In either order.
                            let (send, recv);
                            if me == 0 || round % 2 == 0 {
                                send = select.send(&sender, me);
                                recv = select.recv(&receiver);
                            } else {
                                recv = select.recv(&receiver);
                                send = select.send(&sender, me);
                            }
                            let done = match select.wait_timeout(sync_support::SHORT) {
                                Ok(done) => done,
                                // The other may have had its last round.
                                Err(_) => continue,
                            };
                            if done.index() == send {
                                done.send(&sender).unwrap();
                            } else {
                                assert_eq!(done.index(), recv);
                                let value = done.recv(&receiver).unwrap();
                                assert!(capacity > 0 || value != me, "it received from itself");
                            }
                        }
                    })
                })
                .collect();
            parties.into_iter().for_each(|party| party.join().unwrap());
        }
    });
}

/// `TestSelectStress`: plain operations and selects on the same channels.
#[test]
fn selects_among_plain_operations() {
    on_each(|runtime| {
        const VALUES: usize = 300;
        let ends: Arc<Vec<(Sender<usize>, Receiver<usize>)>> =
            Arc::new([0, 0, 2, 3].map(bounded).into_iter().collect());
        let mut fibers = Vec::new();
        for channel in 0..4 {
            let (there, here) = (ends.clone(), ends.clone());
            fibers.push(
                runtime.spawn(move || (0..VALUES).for_each(|value| there[channel].0.send(value).unwrap())),
            );
            fibers.push(runtime.spawn(move || (0..VALUES).for_each(|_| _ = here[channel].1.recv().unwrap())));
        }
        let (there, here) = (ends.clone(), ends);
        fibers.push(runtime.spawn(move || {
            let mut left = [VALUES; 4];
            while left.iter().sum::<usize>() > 0 {
                let mut select = Select::new();
                let live: Vec<_> = (0..4).filter(|&channel| left[channel] > 0).collect();
                for &channel in &live {
                    select.send(&there[channel].0, left[channel]);
                }
                let done = select.wait().unwrap();
                let channel = live[done.index()];
                done.send(&there[channel].0).unwrap();
                left[channel] -= 1;
            }
        }));
        fibers.push(runtime.spawn(move || {
            let mut left = [VALUES; 4];
            while left.iter().sum::<usize>() > 0 {
                let mut select = Select::new();
                let live: Vec<_> = (0..4).filter(|&channel| left[channel] > 0).collect();
                for &channel in &live {
                    select.recv(&here[channel].1);
                }
                let done = select.wait().unwrap();
                let channel = live[done.index()];
                done.recv(&here[channel].1).unwrap();
                left[channel] -= 1;
            }
        }));
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    });
}

/// `TestSelectFairness`: of two that are always ready, each has its share.
#[test]
fn a_select_favours_none() {
    on_each(|runtime| {
        const ROUNDS: usize = 2000;
        let ((first, from_first), (second, from_second)) = (bounded(ROUNDS), bounded(ROUNDS));
        (0..ROUNDS).for_each(|_| first.send(()).unwrap());
        (0..ROUNDS).for_each(|_| second.send(()).unwrap());
        let counts = runtime.spawn(move || {
            let mut counts = [0; 2];
            for _ in 0..ROUNDS {
                let mut select = Select::new();
                select.recv(&from_first);
                select.recv(&from_second);
                counts[select.wait().unwrap().index()] += 1;
            }
            counts
        });
        // 1,000 each, with a deviation of 22.
        assert!(
            counts
                .join()
                .unwrap()
                .iter()
                .all(|count| (850..1150).contains(count))
        );
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

/// `TestSelectDuplicateChannel`: the one that stands in a queue twice leaves it twice.
#[test]
fn one_channel_twice_in_a_select() {
    on_each(|runtime| {
        let ((first, from_first), (second, from_second), (third, from_third)) =
            (rendezvous(), rendezvous(), rendezvous());
        let twice = runtime.spawn({
            let from_first = from_first.clone();
            move || {
                let mut select = Select::new();
                select.recv(&from_first);
                select.recv(&from_first);
                select.recv(&from_second);
                let index = select.wait().unwrap().index();
                third.send(9).unwrap();
                index
            }
        });
        until_parked(runtime, WaitReason::Select, 1);
        let behind = runtime.spawn(move || from_first.recv());
        until_parked(runtime, WaitReason::Recv, 1);
        second.send(7).unwrap();
        assert_eq!(from_third.recv(), Ok(9));
        assert_eq!(twice.join().unwrap(), 2);
        first.send(8).unwrap();
        assert_eq!(behind.join().unwrap(), Ok(8));
    });
}

/// `doubleselect.go`: a select never does two of its sends.
#[test]
fn a_select_sends_once() {
    on_each(|runtime| {
        const VALUES: usize = 1000;
        let ends: [_; 4] = std::array::from_fn(|_| rendezvous::<usize>());
        let (merged, all) = rendezvous();
        for (_, receiver) in &ends {
            let (receiver, merged) = (receiver.clone(), merged.clone());
            runtime.spawn(move || receiver.iter().for_each(|value| merged.send(value).unwrap()));
        }
        drop(merged);
        let senders: Vec<_> = ends.into_iter().map(|(sender, _)| sender).collect();
        runtime.spawn(move || {
            for value in 0..VALUES {
                let mut select = Select::new();
                senders.iter().for_each(|sender| _ = select.send(sender, value));
                let done = select.wait().unwrap();
                let index = done.index();
                done.send(&senders[index]).unwrap();
            }
        });
        let mut seen = HashSet::new();
        assert!(all.iter().all(|value| seen.insert(value)), "a value came twice");
        assert_eq!(seen.len(), VALUES);
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

/// `select6.go`: waiters in the middle of a queue leave it without hurting their neighbours.
#[test]
fn leaving_the_middle_of_a_queue() {
    on_each(|runtime| {
        let ((to_all, from_all), (out, from_out)) = (rendezvous::<u32>(), rendezvous::<u32>());
        let waits = |selects: bool| {
            let (from_all, from_out) = (from_all.clone(), from_out.clone());
            runtime.spawn(move || {
                if !selects {
                    return from_all.recv().unwrap();
                }
                let mut select = Select::new();
                let all = select.recv(&from_all);
                select.recv(&from_out);
                let done = select.wait().unwrap();
                if done.index() == all {
                    done.recv(&from_all)
                } else {
                    done.recv(&from_out)
                }
                .unwrap()
            })
        };
        let mut plain = Vec::new();
        let mut selects = Vec::new();
        for number in 0..6 {
            if number % 2 == 0 {
                plain.push(waits(false));
                until_parked(runtime, WaitReason::Recv, plain.len());
            } else {
                selects.push(waits(true));
                until_parked(runtime, WaitReason::Select, selects.len());
            }
        }
        // Those that select leave the queue they share by the other door.
        for select in selects {
            out.send(100).unwrap();
            assert_eq!(select.join().unwrap(), 100);
        }
        for (number, fiber) in plain.into_iter().enumerate() {
            to_all.send(number as u32).unwrap();
            assert_eq!(fiber.join().unwrap(), number as u32);
        }
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
