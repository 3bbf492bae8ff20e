//! Channels while those who wait for them give up, are cancelled, or find them closed: whatever was sent is
//! received once, or came back.

use crate::support::{LONG, SHORT, on_each, until_parked};
use roving_runtime::sync::channel::{
    Receiver, RecvError, Select, SendError, Sender, bounded, rendezvous, unbounded,
};
use roving_runtime::{Runtime, WaitReason, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

#[test]
fn fibers_and_threads_on_both_sides() {
    on_each(|runtime| {
        for capacity in [0, 1, 8] {
            let (sender, receiver) = bounded(capacity);
            let produce = |first: u64| {
                let sender = sender.clone();
                move || (first..first + 300).for_each(|value| sender.send(value).unwrap())
            };
            let consume = || {
                let receiver = receiver.clone();
                move || receiver.iter().collect::<Vec<_>>()
            };
            let fibers: Vec<_> = (0..3)
                .map(|number| runtime.spawn(produce(number * 300)))
                .collect();
            let thread = std::thread::spawn(produce(900));
            let consumers: Vec<_> = (0..3).map(|_| runtime.spawn(consume())).collect();
            let consumer = std::thread::spawn(consume());
            drop(sender);
            fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
            thread.join().unwrap();
            let mut all: Vec<_> = consumers
                .into_iter()
                .flat_map(|consumer| consumer.join().unwrap())
                .collect();
            all.extend(consumer.join().unwrap());
            all.sort_unstable();
            assert!(all.into_iter().eq(0..1200));
        }
    });
}

/// Both sides give up soon: one has sent if, and only if, another has received.
#[test]
fn timeouts_race_with_transfers() {
    on_each(|runtime| {
        for capacity in [0, 1] {
            let (sender, receiver) = bounded(capacity);
            let (sent, received) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let send = |seed: u64| {
                let (sender, sent) = (sender.clone(), sent.clone());
                move || {
                    for round in 1..400 {
                        let timeout = Duration::from_micros((seed * 31 + round * 7) % 60);
                        match sender.send_timeout(round, timeout) {
                            Ok(()) => _ = sent.fetch_add(round as usize, SeqCst),
                            Err(error) => assert_eq!(error.into_inner(), round),
                        }
                    }
                }
            };
            let recv = |seed: u64| {
                let (receiver, received) = (receiver.clone(), received.clone());
                move || {
                    for round in 1..400 {
                        let timeout = Duration::from_micros((seed * 17 + round * 11) % 60);
                        if let Ok(value) = receiver.recv_timeout(timeout) {
                            received.fetch_add(value as usize, SeqCst);
                        }
                    }
                }
            };
            let fibers = (0..3).flat_map(|seed| [runtime.spawn(send(seed)), runtime.spawn(recv(seed))]);
            let fibers: Vec<_> = fibers.collect();
            let threads = [std::thread::spawn(send(3)), std::thread::spawn(recv(3))];
            fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            let left: u64 = receiver.try_iter().sum();
            assert_eq!(sent.load(SeqCst), received.load(SeqCst) + left as usize);
        }
    });
}

#[test]
fn a_receiver_cancelled_while_it_is_given_a_value() {
    on_each(|runtime| {
        for round in 0..300 {
            let (sender, receiver) = rendezvous();
            let waiter = runtime.spawn({
                let receiver = receiver.clone();
                move || receiver.recv()
            });
            until_parked(runtime, WaitReason::Recv, 1);
            let canceller = std::thread::spawn({
                let waiter = waiter.fiber();
                move || waiter.cancel()
            });
            let sent = sender.try_send(round);
            let received = waiter.join().unwrap();
            canceller.join().unwrap();
            match sent {
                Ok(()) => assert_eq!(received, Ok(round)),
                Err(error) => {
                    assert_eq!((error.into_inner(), received), (round, Err(RecvError::Cancelled)));
                }
            }
        }
    });
}

#[test]
fn a_sender_cancelled_while_its_value_is_taken() {
    on_each(|runtime| {
        for round in 0..300 {
            let (sender, receiver) = rendezvous();
            let waiter = runtime.spawn(move || sender.send(round));
            until_parked(runtime, WaitReason::Send, 1);
            let canceller = std::thread::spawn({
                let waiter = waiter.fiber();
                move || waiter.cancel()
            });
            let received = receiver.try_recv();
            let sent = waiter.join().unwrap();
            canceller.join().unwrap();
            match received {
                Ok(value) => assert_eq!((value, sent), (round, Ok(()))),
                Err(_) => assert_eq!(sent, Err(SendError::Cancelled(round))),
            }
        }
    });
}

/// Values whose drop is counted: each is dropped once, wherever it ends.
#[test]
fn no_value_is_lost_or_dropped_twice_in_a_closing_channel() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    on_each(|runtime| {
        for capacity in [0, 1, 5] {
            for round in 0..20 {
                let dropped = Arc::new(AtomicUsize::new(0));
                let (sender, receiver) = bounded(capacity);
                let senders: Vec<_> = (0..6)
                    .map(|_| {
                        let (sender, dropped) = (sender.clone(), dropped.clone());
                        runtime.spawn(move || {
                            (0..10)
                                .filter(|_| sender.send(Counted(dropped.clone())).is_ok())
                                .count()
                        })
                    })
                    .collect();
                let receivers: Vec<_> = (0..2)
                    .map(|_| {
                        let receiver = receiver.clone();
                        runtime.spawn(move || receiver.iter().count())
                    })
                    .collect();
                // The others may have them all before this one has its share.
                let _ = (0..round).try_for_each(|_| receiver.recv_timeout(SHORT).map(drop));
                // By a call, by the last receiver's end, or both.
                if round % 2 == 0 {
                    sender.close();
                }
                let here = receiver.try_iter().count();
                drop(receiver);
                let sent: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
                if round % 2 == 1 {
                    sender.close();
                }
                let there: usize = receivers
                    .into_iter()
                    .map(|receiver| receiver.join().unwrap())
                    .sum();
                assert_eq!(dropped.load(SeqCst), 60);
                assert!(sent >= here + there);
            }
        }
    });
}

#[test]
fn closing_wakes_all_that_wait() {
    on_each(|runtime| {
        let (full, _keeps) = bounded(1);
        full.send(0).unwrap();
        let (_keeps_too, empty) = bounded::<u32>(1);
        let senders: Vec<_> = (1..=50)
            .map(|value| {
                let full = full.clone();
                runtime.spawn(move || full.send(value) == Err(SendError::Closed(value)))
            })
            .collect();
        let receivers: Vec<_> = (0..50)
            .map(|_| {
                let empty = empty.clone();
                runtime.spawn(move || empty.recv() == Err(RecvError::Closed))
            })
            .collect();
        let selects: Vec<_> = (1..=50)
            .map(|value| {
                let (full, empty) = (full.clone(), empty.clone());
                runtime.spawn(move || {
                    let mut select = Select::new();
                    select.recv(&empty);
                    let send = select.send(&full, value);
                    let done = select.wait().unwrap();
                    if done.index() == send {
                        done.send(&full) == Err(SendError::Closed(value))
                    } else {
                        done.recv(&empty) == Err(RecvError::Closed)
                            && select.take_unsent(send, &full) == Some(value)
                    }
                })
            })
            .collect();
        until_parked(runtime, WaitReason::Send, 50);
        until_parked(runtime, WaitReason::Recv, 50);
        until_parked(runtime, WaitReason::Select, 50);
        full.close();
        empty.close();
        for fiber in senders.into_iter().chain(receivers).chain(selects) {
            assert!(fiber.join().unwrap());
        }
    });
}

#[test]
fn a_sender_that_panics_closes_what_it_alone_held() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let (sender, receiver) = unbounded();
    let fiber = runtime.spawn(move || {
        sender.send(1).unwrap();
        panic!("and nothing more");
    });
    assert_eq!(receiver.recv(), Ok(1));
    assert_eq!(
        receiver.recv_timeout(LONG).unwrap_err().to_string(),
        RecvError::Closed.to_string()
    );
    fiber.join().unwrap_err();
}

/// The ends of channels travel through channels.
#[test]
fn a_channel_for_the_answer() {
    on_each(|runtime| {
        let (questions, asked) = bounded::<(u64, Sender<u64>)>(2);
        for _ in 0..2 {
            let asked = asked.clone();
            runtime.spawn(move || {
                asked
                    .iter()
                    .for_each(|(number, answer)| answer.send(number * number).unwrap());
            });
        }
        let clients: Vec<_> = (0..20)
            .map(|number| {
                let questions = questions.clone();
                runtime.spawn(move || {
                    let (sender, answer): (Sender<u64>, Receiver<u64>) = rendezvous();
                    questions.send((number, sender)).unwrap();
                    yield_now();
                    assert_eq!(answer.recv(), Ok(number * number));
                    assert_eq!(answer.recv(), Err(RecvError::Closed));
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}
