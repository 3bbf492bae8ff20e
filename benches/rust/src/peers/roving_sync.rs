//! roving's channels, mutex and condition variable.

use super::roving::{inside, join};
use crate::shared::{BUFFER, RIVALS, Sample};
use crate::table::{Case, Peer, timed};
use roving_runtime::spawn;
use roving_runtime::sync::channel::bounded;
use roving_runtime::sync::{Condvar, Mutex};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

pub(super) const CASES: &[Case] = &[
    timed("channel_rendezvous", Peer::Roving, |rounds| channel(rounds, 0)),
    timed("channel_buffered", Peer::Roving, |rounds| channel(rounds, BUFFER)),
    timed("channel_pingpong", Peer::Roving, channel_pingpong),
    timed("mutex_pingpong", Peer::Roving, mutex_pingpong),
    timed("mutex_contended", Peer::Roving, mutex_contended),
];

fn channel(rounds: u64, capacity: usize) -> Sample {
    inside(move || {
        let (sender, receiver) = bounded(capacity);
        let start = Instant::now();
        let producer = spawn(move || {
            for i in 0..rounds {
                sender.send(i).expect("the receiver stays");
            }
        });
        for _ in 0..rounds {
            black_box(receiver.recv().expect("the sender stays"));
        }
        join(producer);
        Sample::new(start.elapsed(), rounds)
    })
}

fn channel_pingpong(rounds: u64) -> Sample {
    inside(move || {
        let (there, at_other) = bounded(1);
        let (back, at_us) = bounded(1);
        let start = Instant::now();
        let other = spawn(move || {
            while let Ok(item) = at_other.recv() {
                back.send(item).expect("the receiver stays");
            }
        });
        for i in 0..rounds {
            there.send(i).expect("the receiver stays");
            black_box(at_us.recv().expect("the sender stays"));
        }
        drop(there);
        join(other);
        Sample::new(start.elapsed(), 2 * rounds)
    })
}

fn mutex_pingpong(rounds: u64) -> Sample {
    fn play(shared: &(Mutex<u64>, Condvar), ours: u64, rounds: u64) {
        let (turn, changed) = shared;
        for round in 0..rounds {
            let mut turn = turn.lock().expect("not poisoned");
            while *turn != 2 * round + ours {
                turn = changed.wait(turn).expect("not poisoned");
            }
            *turn += 1;
            changed.notify_one();
        }
    }
    inside(move || {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let theirs = shared.clone();
        let start = Instant::now();
        let other = spawn(move || play(&theirs, 1, rounds));
        play(&shared, 0, rounds);
        join(other);
        Sample::new(start.elapsed(), 2 * rounds)
    })
}

fn mutex_contended(rounds: u64) -> Sample {
    inside(move || {
        let count = Arc::new(Mutex::new(0));
        let start = Instant::now();
        let rivals: Vec<_> = (0..RIVALS)
            .map(|_| {
                let count = count.clone();
                spawn(move || (0..rounds).for_each(|_| *count.lock().expect("not poisoned") += 1))
            })
            .collect();
        rivals.into_iter().for_each(join);
        assert_eq!(*count.lock().expect("not poisoned"), RIVALS * rounds);
        Sample::new(start.elapsed(), RIVALS * rounds)
    })
}
