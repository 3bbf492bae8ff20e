//! What the operations cost. Not a test: `cargo test --release -p roving-runtime --test sync_figures -- --ignored
//! --nocapture`, on a quiet machine; the best of several rounds is printed.

use roving_runtime::sync::channel::{Select, bounded, rendezvous, unbounded};
use roving_runtime::sync::{Condvar, Event, Mutex, RwLock, Semaphore};
use roving_runtime::{Runtime, yield_now};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;

/// Prints the best time of one of `n` steps that `run` takes.
fn best(what: &str, n: u32, mut run: impl FnMut() -> Duration) {
    let best = (0..ROUNDS).map(|_| run()).min().expect("some rounds");
    println!("{what:<58} {:7.1} ns", best.as_secs_f64() * 1e9 / f64::from(n));
}

fn timed(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

/// Hand-offs between two fibers through two channels, there and back.
fn ping_pong(runtime: &Runtime, capacity: usize, n: u32) -> Duration {
    let (there, from_here) = bounded::<u32>(capacity);
    let (back, from_there) = bounded::<u32>(capacity);
    let partner = runtime.spawn(move || {
        for value in &from_here {
            back.send(value).expect("open");
        }
    });
    let time = runtime
        .spawn(move || {
            timed(|| {
                for value in 0..n / 2 {
                    there.send(value).expect("open");
                    assert_eq!(from_there.recv(), Ok(value));
                }
            })
        })
        .join()
        .expect("no panic");
    partner.join().expect("no panic");
    time
}

/// One way: a producer and a consumer.
fn stream(runtime: &Runtime, capacity: usize, n: u32) -> Duration {
    let (sender, receiver) = bounded::<u32>(capacity);
    let producer = runtime.spawn(move || {
        for value in 0..n {
            sender.send(value).expect("open");
        }
    });
    let time = runtime.spawn(move || timed(|| assert_eq!(receiver.iter().count(), n as usize)));
    producer.join().expect("no panic");
    time.join().expect("no panic")
}

#[test]
#[ignore = "figures, not a test"]
fn figures() {
    let one = Runtime::builder().workers(1).build().expect("a runtime");
    let two = Runtime::builder().workers(2).build().expect("a runtime");
    let n = 400_000;

    best("mutex, lock and unlock", n, || {
        let mutex = Mutex::new(0u32);
        timed(|| {
            for _ in 0..n {
                *black_box(&mutex).lock().expect("sound") += 1;
            }
        })
    });
    best("rwlock, read and unlock", n, || {
        let lock = RwLock::new(0u32);
        timed(|| {
            for _ in 0..n {
                black_box(*black_box(&lock).read().expect("sound"));
            }
        })
    });
    best("semaphore, acquire and release", n, || {
        let semaphore = Semaphore::new(1);
        timed(|| {
            for _ in 0..n {
                drop(black_box(&semaphore).acquire());
            }
        })
    });
    best("channel, buffered, send and receive in one fiber", n, || {
        let (sender, receiver) = unbounded();
        one.spawn(move || {
            timed(|| {
                for value in 0..n {
                    sender.send(value).expect("open");
                    black_box(receiver.recv().expect("open"));
                }
            })
        })
        .join()
        .expect("no panic")
    });
    best("yield", n, || {
        one.spawn(move || {
            timed(|| {
                for _ in 0..n {
                    yield_now();
                }
            })
        })
        .join()
        .expect("no panic")
    });
    for capacity in [0, 1] {
        best(
            &format!("channel({capacity}), hand-off, 1 worker, there and back"),
            n,
            || ping_pong(&one, capacity, n),
        );
    }
    for capacity in [0, 1, 128] {
        best(&format!("channel({capacity}), one way, 1 worker"), n, || {
            stream(&one, capacity, n)
        });
    }
    for capacity in [0, 1, 128] {
        best(&format!("channel({capacity}), one way, 2 workers"), n, || {
            stream(&two, capacity, n)
        });
    }
    best("select of two ready channels", n, || {
        let (sender, receiver) = unbounded();
        let (_other, empty) = unbounded::<u32>();
        one.spawn(move || {
            timed(|| {
                for value in 0..n {
                    sender.send(value).expect("open");
                    let mut select = Select::new();
                    select.recv(&receiver);
                    select.recv(&empty);
                    assert_eq!(select.wait().expect("ready").recv(&receiver), Ok(value));
                }
            })
        })
        .join()
        .expect("no panic")
    });
    best("select of two, hand-off, 1 worker", n, || {
        let (sender, receiver) = rendezvous();
        let (_other, empty) = rendezvous::<u32>();
        let producer = one.spawn(move || {
            for value in 0..n {
                sender.send(value).expect("open");
            }
        });
        let time = one.spawn(move || {
            timed(|| {
                for value in 0..n {
                    let mut select = Select::new();
                    select.recv(&receiver);
                    select.recv(&empty);
                    assert_eq!(select.wait().expect("ready").recv(&receiver), Ok(value));
                }
            })
        });
        producer.join().expect("no panic");
        time.join().expect("no panic")
    });
    best("mutex and condvar, hand-off, 1 worker", n / 4, || {
        let shared = Arc::new((Mutex::new(0u32), Condvar::new()));
        let play = |odd: u32| {
            let shared = shared.clone();
            one.spawn(move || {
                let (turn, changed) = &*shared;
                timed(|| {
                    for _ in 0..n / 8 {
                        let turn = turn.lock().expect("sound");
                        let mut turn = changed.wait_while(turn, |turn| *turn % 2 != odd).expect("sound");
                        *turn += 1;
                        changed.notify_one();
                    }
                })
            })
        };
        let (even, odd) = (play(0), play(1));
        odd.join().expect("no panic");
        even.join().expect("no panic")
    });
    for (name, runtime) in [("1 worker", &one), ("2 workers", &two)] {
        best(&format!("mutex, 4 fibers contending, {name}"), n, || {
            let mutex = Arc::new(Mutex::new(0u32));
            let fibers: Vec<_> = (0..4)
                .map(|_| {
                    let mutex = mutex.clone();
                    runtime.spawn(move || {
                        for _ in 0..n / 4 {
                            *mutex.lock().expect("sound") += 1;
                        }
                    })
                })
                .collect();
            timed(|| {
                fibers
                    .into_iter()
                    .for_each(|fiber| fiber.join().expect("no panic"));
            })
        });
    }
    best("event, 1,000 fibers woken, per fiber, 1 worker", 1000, || {
        let event = Arc::new(Event::new());
        let fibers: Vec<_> = (0..1000)
            .map(|_| {
                let event = event.clone();
                one.spawn(move || event.wait().expect("not cancelled"))
            })
            .collect();
        one.spawn(yield_now).join().expect("no panic");
        timed(|| {
            event.set();
            fibers
                .into_iter()
                .for_each(|fiber| fiber.join().expect("no panic"));
        })
    });
}
