//! may's side. Its coroutines may move between threads, so spawning them is unsafe; ours touch nothing
//! that belongs to a thread.

use crate::shared::{
    BATCH, CHUNKS, CUT, FIB, FIB_CUT, IDLE_GAP, RIVALS, Sample, Turn, WakeLatency, chunk, fib_alone,
    fib_spawns, settings, timers,
};
use crate::table::{Case, Peer, once, timed};
use may::coroutine::{self, Coroutine, JoinHandle, park, park_timeout, sleep, yield_now};
use may::go;
use may::sync::{Condvar, Mutex, mpsc};
use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Left out:
/// - `pingpong_across`, `wake_loaded`: what a coroutine wakes goes to its own worker's queue, and a worker
///   with work of its own never looks at what comes from outside;
/// - `channel_rendezvous`: its channels have no bound;
/// - `skynet`: a stack is allocated at spawn, and a million of them (two mappings each) are more than the
///   kernel allows;
/// - `timer_arm_cancel`: a park that finds a token arms no timer.
pub(super) const CASES: &[Case] = &[
    timed("spawn_join", Peer::May, spawn_join),
    timed("spawn_batch", Peer::May, spawn_batch),
    timed("spawn_join_main", Peer::May, spawn_join_main),
    timed("spawn_batch_main", Peer::May, spawn_batch_main),
    timed("switch", Peer::May, switch),
    timed("pingpong", Peer::May, pingpong),
    timed("wake_idle", Peer::May, wake_idle),
    timed("channel_buffered", Peer::May, channel_unbounded),
    timed("channel_pingpong", Peer::May, channel_pingpong),
    timed("mutex_pingpong", Peer::May, mutex_pingpong),
    timed("mutex_contended", Peer::May, mutex_contended),
    timed("fib", Peer::May, fib),
    timed("fib_cutoff", Peer::May, fib_cutoff),
    timed("forkjoin", Peer::May, forkjoin),
    timed("timers_cancel", Peer::May, timers_cancel),
    once("timers_fire", Peer::May, timers_fire),
];

/// Sleepers at once, where the others have 100,000: the kernel's limit on mappings ends it at 32,000.
const MOST_SLEEPERS: u64 = 20_000;

/// Before anything else of may's.
pub(crate) fn configure() {
    let config = may::config();
    // A pool for a whole batch, so that no stack is made anew. may pins its workers to cores unless told not
    // to; then they could not move away from a core that somebody else uses, as all the others can.
    config
        .set_workers(settings().workers)
        .set_pool_capacity(2 * BATCH as usize);
    config.set_worker_pin(settings().pin);
}

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    go!(f)
}

fn join<T>(handle: JoinHandle<T>) -> T {
    handle.join().expect("nothing panics in a bench")
}

fn inside<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    join(spawn(f))
}

fn spawn_join(rounds: u64) -> Sample {
    inside(move || spawn_join_main(rounds))
}

fn spawn_join_main(rounds: u64) -> Sample {
    let start = Instant::now();
    for i in 0..rounds {
        black_box(join(spawn(move || i)));
    }
    Sample::new(start.elapsed(), rounds)
}

fn spawn_batch(rounds: u64) -> Sample {
    inside(move || spawn_batch_main(rounds))
}

fn spawn_batch_main(rounds: u64) -> Sample {
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
    inside(move || {
        let start = Instant::now();
        let other = spawn(move || (0..rounds).for_each(|_| yield_now()));
        (0..rounds).for_each(|_| yield_now());
        join(other);
        Sample::new(start.elapsed(), 2 * rounds)
    })
}

fn play(turn: &Turn, ours: u64, rounds: u64, other: &Coroutine) {
    for round in 0..rounds {
        while !turn.is(2 * round + ours) {
            park();
        }
        turn.pass();
        other.unpark();
    }
}

fn pingpong(rounds: u64) -> Sample {
    inside(move || {
        let turn = Arc::new(Turn::new());
        let first = coroutine::current();
        let second = spawn({
            let turn = turn.clone();
            move || play(&turn, 1, rounds, &first)
        });
        let start = Instant::now();
        play(&turn, 0, rounds, second.coroutine());
        join(second);
        Sample::new(start.elapsed(), 2 * rounds)
    })
}

/// The waker is a plain thread: a coroutine's wakes stay in its own worker's queue.
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
    let sample = latency.drive(rounds, IDLE_GAP, || sleeper.coroutine().unpark());
    join(sleeper);
    sample
}

fn channel_unbounded(rounds: u64) -> Sample {
    inside(move || {
        let (sender, receiver) = mpsc::channel();
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
        let (there, at_other) = mpsc::channel();
        let (back, at_us) = mpsc::channel();
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

fn forked_fib(n: u64, cut: u64) -> u64 {
    if n <= cut {
        return fib_alone(n);
    }
    let left = spawn(move || forked_fib(n - 1, cut));
    let right = forked_fib(n - 2, cut);
    join(left) + right
}

fn fib(rounds: u64) -> Sample {
    inside(move || {
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(forked_fib(black_box(FIB), 1));
        }
        Sample::new(start.elapsed(), rounds * fib_spawns(FIB, 1))
    })
}

fn fib_cutoff(rounds: u64) -> Sample {
    inside(move || {
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(forked_fib(black_box(FIB_CUT), CUT));
        }
        Sample::new(start.elapsed(), rounds)
    })
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
    inside(move || {
        let start = Instant::now();
        for round in 0..rounds {
            black_box(chunks(round, CHUNKS));
        }
        Sample::new(start.elapsed(), rounds)
    })
}

fn timers_cancel(rounds: u64) -> Sample {
    let count = timers().min(MOST_SLEEPERS);
    inside(move || {
        let mut sleepers = Vec::with_capacity(count as usize);
        let start = Instant::now();
        for _ in 0..rounds {
            sleepers.extend((0..count).map(|_| spawn(|| park_timeout(crate::shared::NEVER))));
            sleepers.iter().for_each(|sleeper| sleeper.coroutine().unpark());
            sleepers.drain(..).for_each(join);
        }
        Sample::new(start.elapsed(), rounds * count)
    })
}

fn timers_fire(_: u64) -> Sample {
    let count = timers().min(MOST_SLEEPERS);
    inside(move || {
        let lead = Duration::from_millis(100) + Duration::from_micros(5) * count as u32;
        let deadline = Instant::now() + lead;
        let sleepers: Vec<_> = (0..count)
            .map(|_| spawn(move || sleep(deadline.saturating_duration_since(Instant::now()))))
            .collect();
        sleepers.into_iter().for_each(join);
        Sample::new(deadline.elapsed(), count)
    })
}

/// Serves echo for ever; tells `ready` the port.
pub(crate) fn echo_server(ready: impl FnOnce(u16)) -> std::io::Result<()> {
    let listener = may::net::TcpListener::bind(("127.0.0.1", 0))?;
    ready(listener.local_addr()?.port());
    // Accepting is a coroutine like the others, not the calling thread's business.
    let served = spawn(move || -> std::io::Result<()> {
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
    });
    join(served)
}
