//! What Go's tests of select check (`runtime/chan_test.go`, `test/chan/*.go`), in our own words.

use crate::support::{on_each, until_parked};
use roving_runtime::WaitReason;
use roving_runtime::sync::channel::{Receiver, Select, Sender, TrySendError, bounded, rendezvous};
use std::collections::HashSet;
use std::sync::Arc;

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
                            let done = match select.wait_timeout(crate::support::SHORT) {
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

/// And when one of the two was chosen, the other one leaves all the same.
#[test]
fn one_of_two_on_the_same_channel_is_chosen() {
    on_each(|runtime| {
        for _ in 0..20 {
            let (sender, receiver) = rendezvous();
            let twice = runtime.spawn({
                let receiver = receiver.clone();
                move || {
                    let mut select = Select::new();
                    select.recv(&receiver);
                    select.recv(&receiver);
                    select.wait().unwrap().recv(&receiver)
                }
            });
            until_parked(runtime, WaitReason::Select, 1);
            sender.send(1).unwrap();
            assert_eq!(twice.join().unwrap(), Ok(1));
            // Nobody is in the queue, least of all one that is gone.
            assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
            let behind = runtime.spawn(move || receiver.recv());
            until_parked(runtime, WaitReason::Recv, 1);
            sender.try_send(3).unwrap();
            assert_eq!(behind.join().unwrap(), Ok(3));
        }
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
