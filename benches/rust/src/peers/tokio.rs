//! tokio's side: the multi-thread runtime.

use crate::shared::{
    BATCH, BUFFER, BUSY_GAP, CHUNKS, CUT, FIB, FIB_CUT, IDLE_GAP, NEVER, RIVALS, Sample, Turn, WakeLatency,
    chunk, fib_alone, fib_spawns, pin_worker, settings, skynet_leaves, skynet_spawns, timers,
};
use crate::table::{Case, Peer, once, timed};
use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinHandle;

pub(super) const CASES: &[Case] = &[
    timed("spawn_join", Peer::Tokio, spawn_join),
    timed("spawn_batch", Peer::Tokio, spawn_batch),
    timed("spawn_join_main", Peer::Tokio, spawn_join_main),
    timed("spawn_batch_main", Peer::Tokio, spawn_batch_main),
    timed("switch", Peer::Tokio, switch),
    timed("pingpong", Peer::Tokio, pingpong),
    timed("pingpong_across", Peer::Tokio, pingpong_across),
    timed("wake_idle", Peer::Tokio, wake_idle),
    timed("wake_loaded", Peer::Tokio, wake_loaded),
    timed("channel_rendezvous", Peer::Tokio, |rounds| channel(rounds, 1)),
    timed("channel_buffered", Peer::Tokio, |rounds| channel(rounds, BUFFER)),
    timed("channel_pingpong", Peer::Tokio, channel_pingpong),
    timed("mutex_pingpong", Peer::Tokio, mutex_pingpong),
    timed("mutex_contended", Peer::Tokio, mutex_contended),
    timed("skynet", Peer::Tokio, skynet),
    timed("fib", Peer::Tokio, fib),
    timed("fib_cutoff", Peer::Tokio, fib_cutoff),
    timed("forkjoin", Peer::Tokio, forkjoin),
    timed("timer_arm_cancel", Peer::Tokio, timer_arm_cancel),
    timed("timers_cancel", Peer::Tokio, timers_cancel),
    once("timers_fire", Peer::Tokio, timers_fire),
];

/// A runtime whose first worker is the process's worker number `first`.
fn build(workers: usize, first: usize) -> Runtime {
    let next = AtomicUsize::new(first);
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .on_thread_start(move || pin_worker(next.fetch_add(1, Ordering::Relaxed)))
        .build()
        .expect("a runtime for the benches")
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| build(settings().workers, 0))
}

/// Two runtimes of one worker each: the nearest to two tasks that stay on two workers.
fn two_runtimes() -> &'static [Runtime; 2] {
    static RUNTIMES: OnceLock<[Runtime; 2]> = OnceLock::new();
    RUNTIMES.get_or_init(|| [build(1, 0), build(1, 1)])
}

async fn join<T>(handle: JoinHandle<T>) -> T {
    handle.await.expect("nothing panics in a bench")
}

/// Runs `main` as a task, not on the calling thread.
fn inside<T: Send + 'static>(main: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = runtime();
    runtime.block_on(join(runtime.spawn(main)))
}

/// Puts the task at the back of its worker's queue. tokio's own `yield_now` goes through the driver
/// first, a system call each time the queue is empty otherwise: this is the cheaper one.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn spawn_join(rounds: u64) -> Sample {
    inside(async move {
        let start = Instant::now();
        for i in 0..rounds {
            black_box(join(tokio::spawn(async move { i })).await);
        }
        Sample::new(start.elapsed(), rounds)
    })
}

fn spawn_batch(rounds: u64) -> Sample {
    inside(async move {
        let mut handles = Vec::with_capacity(BATCH as usize);
        let start = Instant::now();
        for _ in 0..rounds {
            handles.extend((0..BATCH).map(|i| tokio::spawn(async move { i })));
            for handle in handles.drain(..) {
                black_box(join(handle).await);
            }
        }
        Sample::new(start.elapsed(), rounds * BATCH)
    })
}

fn spawn_join_main(rounds: u64) -> Sample {
    let runtime = runtime();
    let start = Instant::now();
    for i in 0..rounds {
        black_box(runtime.block_on(join(runtime.spawn(async move { i }))));
    }
    Sample::new(start.elapsed(), rounds)
}

fn spawn_batch_main(rounds: u64) -> Sample {
    let runtime = runtime();
    let mut handles = Vec::with_capacity(BATCH as usize);
    let start = Instant::now();
    for _ in 0..rounds {
        handles.extend((0..BATCH).map(|i| runtime.spawn(async move { i })));
        runtime.block_on(async {
            for handle in handles.drain(..) {
                black_box(join(handle).await);
            }
        });
    }
    Sample::new(start.elapsed(), rounds * BATCH)
}

fn switch(rounds: u64) -> Sample {
    inside(async move {
        let yields = || async move {
            for _ in 0..rounds {
                yield_now().await;
            }
        };
        let start = Instant::now();
        let other = tokio::spawn(yields());
        yields().await;
        join(other).await;
        Sample::new(start.elapsed(), 2 * rounds)
    })
}

async fn play(turn: &Turn, ours: u64, rounds: u64, notify: &[Notify; 2]) {
    for round in 0..rounds {
        while !turn.is(2 * round + ours) {
            notify[ours as usize].notified().await;
        }
        turn.pass();
        notify[1 - ours as usize].notify_one();
    }
}

fn pingpong(rounds: u64) -> Sample {
    inside(async move {
        let shared = Arc::new((Turn::new(), [Notify::new(), Notify::new()]));
        let theirs = shared.clone();
        let start = Instant::now();
        let second = tokio::spawn(async move { play(&theirs.0, 1, rounds, &theirs.1).await });
        play(&shared.0, 0, rounds, &shared.1).await;
        join(second).await;
        Sample::new(start.elapsed(), 2 * rounds)
    })
}

fn pingpong_across(rounds: u64) -> Sample {
    let shared = Arc::new((Turn::new(), [Notify::new(), Notify::new()]));
    let theirs = shared.clone();
    let [here, there] = two_runtimes();
    let second = there.spawn(async move { play(&theirs.0, 1, rounds, &theirs.1).await });
    here.block_on(join(here.spawn(async move {
        let start = Instant::now();
        play(&shared.0, 0, rounds, &shared.1).await;
        join(second).await;
        Sample::new(start.elapsed(), 2 * rounds)
    })))
}

fn wake(rounds: u64, gap: Duration, loaded: bool) -> Sample {
    let shared = Arc::new((WakeLatency::new(), Notify::new()));
    let theirs = shared.clone();
    let [here, there] = two_runtimes();
    let sleeper = there.spawn(async move {
        let stop = Arc::new(AtomicBool::new(!loaded));
        let seen = stop.clone();
        let load = tokio::spawn(async move {
            while !seen.load(Ordering::Relaxed) {
                yield_now().await;
            }
        });
        for round in 1..=rounds {
            while !theirs.0.answer(round) {
                theirs.1.notified().await;
            }
        }
        stop.store(true, Ordering::Relaxed);
        join(load).await;
    });
    here.block_on(join(here.spawn(async move {
        let sample = shared.0.drive(rounds, gap, || shared.1.notify_one());
        join(sleeper).await;
        sample
    })))
}

fn wake_idle(rounds: u64) -> Sample {
    wake(rounds, IDLE_GAP, false)
}

fn wake_loaded(rounds: u64) -> Sample {
    wake(rounds, BUSY_GAP, true)
}

/// There is no channel without a buffer: the nearest holds one item.
fn channel(rounds: u64, capacity: usize) -> Sample {
    inside(async move {
        let (sender, mut receiver) = mpsc::channel(capacity);
        let start = Instant::now();
        let producer = tokio::spawn(async move {
            for i in 0..rounds {
                sender.send(i).await.expect("the receiver stays");
            }
        });
        for _ in 0..rounds {
            black_box(receiver.recv().await.expect("the sender stays"));
        }
        join(producer).await;
        Sample::new(start.elapsed(), rounds)
    })
}

fn channel_pingpong(rounds: u64) -> Sample {
    inside(async move {
        let (there, mut at_other) = mpsc::channel(1);
        let (back, mut at_us) = mpsc::channel(1);
        let start = Instant::now();
        let other = tokio::spawn(async move {
            while let Some(item) = at_other.recv().await {
                back.send(item).await.expect("the receiver stays");
            }
        });
        for i in 0..rounds {
            there.send(i).await.expect("the receiver stays");
            black_box(at_us.recv().await.expect("the sender stays"));
        }
        drop(there);
        join(other).await;
        Sample::new(start.elapsed(), 2 * rounds)
    })
}

/// There is no condition variable: the nearest is a `Notify` for each side.
fn mutex_pingpong(rounds: u64) -> Sample {
    async fn play(shared: &(Mutex<u64>, [Notify; 2]), ours: u64, rounds: u64) {
        let (turn, notify) = shared;
        for round in 0..rounds {
            loop {
                let mut turn = turn.lock().await;
                if *turn == 2 * round + ours {
                    *turn += 1;
                    break;
                }
                drop(turn);
                notify[ours as usize].notified().await;
            }
            notify[1 - ours as usize].notify_one();
        }
    }
    inside(async move {
        let shared = Arc::new((Mutex::new(0), [Notify::new(), Notify::new()]));
        let theirs = shared.clone();
        let start = Instant::now();
        let other = tokio::spawn(async move { play(&theirs, 1, rounds).await });
        play(&shared, 0, rounds).await;
        join(other).await;
        Sample::new(start.elapsed(), 2 * rounds)
    })
}

fn mutex_contended(rounds: u64) -> Sample {
    inside(async move {
        let count = Arc::new(Mutex::new(0));
        let start = Instant::now();
        let rivals: Vec<_> = (0..RIVALS)
            .map(|_| {
                let count = count.clone();
                tokio::spawn(async move {
                    for _ in 0..rounds {
                        *count.lock().await += 1;
                    }
                })
            })
            .collect();
        for rival in rivals {
            join(rival).await;
        }
        assert_eq!(*count.lock().await, RIVALS * rounds);
        Sample::new(start.elapsed(), RIVALS * rounds)
    })
}

type Boxed = Pin<Box<dyn Future<Output = u64> + Send>>;

fn tree(leaves: u64, number: u64) -> Boxed {
    Box::pin(async move {
        if leaves == 1 {
            return number;
        }
        let part = leaves / 10;
        let children: [_; 10] = std::array::from_fn(|i| tokio::spawn(tree(part, number + i as u64 * part)));
        let mut sum = 0;
        for child in children {
            sum += join(child).await;
        }
        sum
    })
}

fn skynet(rounds: u64) -> Sample {
    let leaves = skynet_leaves();
    inside(async move {
        let start = Instant::now();
        for _ in 0..rounds {
            assert_eq!(tree(leaves, 0).await, leaves * (leaves - 1) / 2);
        }
        Sample::new(start.elapsed(), rounds * skynet_spawns(leaves))
    })
}

fn forked_fib(n: u64, cut: u64) -> Boxed {
    Box::pin(async move {
        if n <= cut {
            return fib_alone(n);
        }
        let left = tokio::spawn(forked_fib(n - 1, cut));
        let right = forked_fib(n - 2, cut).await;
        join(left).await + right
    })
}

fn fib(rounds: u64) -> Sample {
    inside(async move {
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(forked_fib(black_box(FIB), 1).await);
        }
        Sample::new(start.elapsed(), rounds * fib_spawns(FIB, 1))
    })
}

fn fib_cutoff(rounds: u64) -> Sample {
    inside(async move {
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(forked_fib(black_box(FIB_CUT), CUT).await);
        }
        Sample::new(start.elapsed(), rounds)
    })
}

fn chunks(from: u64, count: u64) -> Boxed {
    Box::pin(async move {
        if count == 1 {
            return chunk(from);
        }
        let half = count / 2;
        let left = tokio::spawn(chunks(from, half));
        let right = chunks(from + half, count - half).await;
        join(left).await ^ right
    })
}

fn forkjoin(rounds: u64) -> Sample {
    inside(async move {
        let start = Instant::now();
        for round in 0..rounds {
            black_box(chunks(round, CHUNKS).await);
        }
        Sample::new(start.elapsed(), rounds)
    })
}

fn timer_arm_cancel(rounds: u64) -> Sample {
    inside(async move {
        let start = Instant::now();
        for _ in 0..rounds {
            let mut timer = pin!(tokio::time::sleep(NEVER));
            // The first poll arms it.
            std::future::poll_fn(|cx| {
                assert!(timer.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        Sample::new(start.elapsed(), rounds)
    })
}

fn timers_cancel(rounds: u64) -> Sample {
    let count = timers();
    inside(async move {
        let mut sleepers = Vec::with_capacity(count as usize);
        let start = Instant::now();
        for _ in 0..rounds {
            sleepers.extend((0..count).map(|_| {
                let wake = Arc::new(Notify::new());
                let seen = wake.clone();
                (
                    wake,
                    tokio::spawn(async move { tokio::time::timeout(NEVER, seen.notified()).await }),
                )
            }));
            sleepers.iter().for_each(|(wake, _)| wake.notify_one());
            for (_, sleeper) in sleepers.drain(..) {
                join(sleeper).await.expect("woken before its time");
            }
        }
        Sample::new(start.elapsed(), rounds * count)
    })
}

fn timers_fire(_: u64) -> Sample {
    let count = timers();
    inside(async move {
        let lead = Duration::from_millis(100) + Duration::from_micros(5) * count as u32;
        let deadline = Instant::now() + lead;
        let sleepers: Vec<_> = (0..count)
            .map(|_| tokio::spawn(tokio::time::sleep_until(deadline.into())))
            .collect();
        for sleeper in sleepers {
            join(sleeper).await;
        }
        Sample::new(deadline.elapsed(), count)
    })
}

/// Serves echo for ever; tells `ready` the port.
pub(crate) fn echo_server(ready: impl FnOnce(u16)) -> std::io::Result<()> {
    let runtime = runtime();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        ready(listener.local_addr()?.port());
        // Accepting is a task like the others, not the calling thread's business.
        join(tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(async move {
                    let mut buffer = [0; crate::echo::BUFFER];
                    while let Ok(len @ 1..) = stream.read(&mut buffer).await {
                        if stream.write_all(&buffer[..len]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }))
        .await
    })
}
