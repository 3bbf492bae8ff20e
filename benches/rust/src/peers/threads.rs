//! The operating system's side: std's threads.

use crate::shared::{
    BATCH, BUFFER, CHUNKS, CUT, FIB_CUT, IDLE_GAP, RIVALS, Sample, Turn, WakeLatency, chunk, fib_alone,
};
use crate::table::{Case, Peer, timed};
use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle, Thread, park, spawn, yield_now};
use std::time::Instant;

/// Left out: what needs more threads than one would ever start, and what has no meaning without workers.
pub(super) const CASES: &[Case] = &[
    timed("spawn_join", Peer::Threads, spawn_join),
    timed("spawn_batch", Peer::Threads, spawn_batch),
    timed("switch", Peer::Threads, switch),
    timed("pingpong", Peer::Threads, pingpong),
    timed("pingpong_across", Peer::Threads, pingpong),
    timed("wake_idle", Peer::Threads, wake_idle),
    timed("channel_rendezvous", Peer::Threads, |rounds| channel(rounds, 0)),
    timed("channel_buffered", Peer::Threads, |rounds| {
        channel(rounds, BUFFER)
    }),
    timed("channel_pingpong", Peer::Threads, channel_pingpong),
    timed("mutex_pingpong", Peer::Threads, mutex_pingpong),
    timed("mutex_contended", Peer::Threads, mutex_contended),
    timed("fib_cutoff", Peer::Threads, fib_cutoff),
    timed("forkjoin", Peer::Threads, forkjoin),
];

fn join<T>(handle: JoinHandle<T>) -> T {
    handle.join().expect("nothing panics in a bench")
}

fn spawn_join(rounds: u64) -> Sample {
    let start = Instant::now();
    for i in 0..rounds {
        black_box(join(spawn(move || i)));
    }
    Sample::new(start.elapsed(), rounds)
}

fn spawn_batch(rounds: u64) -> Sample {
    let mut handles = Vec::with_capacity(BATCH as usize);
    let start = Instant::now();
    for _ in 0..rounds {
        handles.extend((0..BATCH).map(|i| spawn(move || i)));
        for handle in handles.drain(..) {
            black_box(join(handle));
        }
    }
    Sample::new(start.elapsed(), rounds * BATCH)
}

fn switch(rounds: u64) -> Sample {
    let start = Instant::now();
    let other = spawn(move || (0..rounds).for_each(|_| yield_now()));
    (0..rounds).for_each(|_| yield_now());
    join(other);
    Sample::new(start.elapsed(), 2 * rounds)
}

fn play(turn: &Turn, ours: u64, rounds: u64, other: &Thread) {
    for round in 0..rounds {
        while !turn.is(2 * round + ours) {
            park();
        }
        turn.pass();
        other.unpark();
    }
}

fn pingpong(rounds: u64) -> Sample {
    let turn = Arc::new(Turn::new());
    let first = thread::current();
    let second = spawn({
        let turn = turn.clone();
        move || play(&turn, 1, rounds, &first)
    });
    let start = Instant::now();
    play(&turn, 0, rounds, second.thread());
    join(second);
    Sample::new(start.elapsed(), 2 * rounds)
}

fn wake_idle(rounds: u64) -> Sample {
    let latency = Arc::new(WakeLatency::new());
    let theirs = latency.clone();
    let sleeper = spawn(move || {
        for round in 1..=rounds {
            while !theirs.answer(round) {
                park();
            }
        }
    });
    let sample = latency.drive(rounds, IDLE_GAP, || sleeper.thread().unpark());
    join(sleeper);
    sample
}

fn channel(rounds: u64, capacity: usize) -> Sample {
    let (sender, receiver) = sync_channel(capacity);
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
}

fn channel_pingpong(rounds: u64) -> Sample {
    let (there, at_other) = sync_channel(1);
    let (back, at_us) = sync_channel(1);
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
}

fn mutex_pingpong(rounds: u64) -> Sample {
    fn play(shared: &(Mutex<u64>, Condvar), ours: u64, rounds: u64) {
        let (turn, changed) = shared;
        for round in 0..rounds {
            let turn = turn.lock().expect("not poisoned");
            let mut turn = changed
                .wait_while(turn, |turn| *turn != 2 * round + ours)
                .expect("not poisoned");
            *turn += 1;
            changed.notify_one();
        }
    }
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let theirs = shared.clone();
    let start = Instant::now();
    let other = spawn(move || play(&theirs, 1, rounds));
    play(&shared, 0, rounds);
    join(other);
    Sample::new(start.elapsed(), 2 * rounds)
}

fn mutex_contended(rounds: u64) -> Sample {
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
}

fn forked_fib(n: u64) -> u64 {
    if n <= CUT {
        return fib_alone(n);
    }
    let left = spawn(move || forked_fib(n - 1));
    let right = forked_fib(n - 2);
    join(left) + right
}

fn fib_cutoff(rounds: u64) -> Sample {
    let start = Instant::now();
    for _ in 0..rounds {
        black_box(forked_fib(black_box(FIB_CUT)));
    }
    Sample::new(start.elapsed(), rounds)
}

fn chunks(from: u64, count: u64) -> u64 {
    if count == 1 {
        return chunk(from);
    }
    let half = count / 2;
    let left = spawn(move || chunks(from, half));
    let right = chunks(from + half, count - half);
    join(left) ^ right
}

fn forkjoin(rounds: u64) -> Sample {
    let start = Instant::now();
    for round in 0..rounds {
        black_box(chunks(round, CHUNKS));
    }
    Sample::new(start.elapsed(), rounds)
}

/// Serves echo for ever; tells `ready` the port.
pub(crate) fn echo_server(ready: impl FnOnce(u16)) -> std::io::Result<()> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    ready(listener.local_addr()?.port());
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        spawn(move || {
            let mut buffer = [0; crate::echo::BUFFER];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..len]).is_err() {
                    return;
                }
            }
        });
    }
}
