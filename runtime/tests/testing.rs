//! A runtime as tests want it: quiet when nothing moves, with a clock that stands, scheduled by a seed.

use roving_runtime::{Handle, JoinHandle, Runtime};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().expect("a runtime")
}

fn wait_quiet(handle: &Handle) {
    let mut observer = handle.observe();
    while !handle.is_quiet() {
        assert!(observer.wait(Some(Instant::now() + Duration::from_secs(20))));
    }
}

#[test]
fn quiet_is_when_all_have_parked() {
    let runtime = runtime(3);
    let parked = Arc::new(AtomicUsize::new(0));
    for round in 1..200 {
        let fibers: Vec<JoinHandle<()>> = (0..round % 7 + 1)
            .map(|_| {
                let parked = parked.clone();
                runtime.spawn(move || {
                    let inner = parked.clone();
                    roving_runtime::spawn(move || {
                        roving_runtime::yield_now();
                        inner.fetch_add(1, Ordering::Relaxed);
                    });
                    roving_runtime::yield_now();
                    parked.fetch_add(1, Ordering::Relaxed);
                    while roving_runtime::park().is_ok() {}
                })
            })
            .collect();
        wait_quiet(runtime.handle());
        assert_eq!(parked.swap(0, Ordering::Relaxed), 2 * fibers.len());
        for fiber in fibers {
            fiber.cancel();
            fiber.join().expect("it ends when it is cancelled");
        }
    }
}

#[test]
fn not_quiet_while_one_runs() {
    let runtime = runtime(2);
    let (started, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (theirs, gone) = (started.clone(), go.clone());
    let fiber = runtime.spawn(move || {
        theirs.store(1, Ordering::Release);
        while gone.load(Ordering::Acquire) == 0 {
            std::hint::spin_loop();
        }
    });
    while started.load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
    let handle = runtime.handle();
    let mut observer = handle.observe();
    assert!(observer.wait(None));
    assert!(!handle.is_quiet());
    go.store(1, Ordering::Release);
    fiber.join().expect("it spins");
    wait_quiet(handle);
}

/// Moves the clock from deadline to deadline until all of them have ended.
fn play(handle: &Handle, fibers: &[JoinHandle<Duration>]) {
    loop {
        wait_quiet(handle);
        if fibers.iter().all(JoinHandle::is_done) {
            return;
        }
        handle.advance_clock(handle.next_deadline().expect("somebody sleeps"));
    }
}

#[test]
fn hours_pass_at_once_and_each_sleeper_wakes_at_its_time() {
    let runtime = runtime(3);
    let handle = runtime.handle().clone();
    assert!(handle.stop_clock());
    let start = handle.now();
    let real = Instant::now();
    let fibers: Vec<_> = (0..100_u32)
        .map(|number| {
            let handle = handle.clone();
            runtime.spawn(move || {
                for _ in 0..3 {
                    roving_runtime::sleep(number * HOUR).expect("nobody cancels it");
                }
                handle.now() - start
            })
        })
        .collect();
    play(&handle, &fibers);
    for (number, fiber) in fibers.into_iter().enumerate() {
        assert_eq!(fiber.join().expect("it sleeps"), 3 * number as u32 * HOUR);
    }
    assert!(real.elapsed() < Duration::from_secs(20));
    assert!(handle.release_clock());
    assert!(handle.now() < start + HOUR);
}

#[test]
fn a_clock_that_stands_ends_no_wait() {
    let runtime = runtime(2);
    let handle = runtime.handle().clone();
    handle.stop_clock();
    let fiber = runtime.spawn(|| roving_runtime::sleep(Duration::from_millis(1)));
    wait_quiet(&handle);
    std::thread::sleep(Duration::from_millis(20));
    assert!(!fiber.is_done());
    let other = runtime.spawn(|| roving_runtime::sleep(Duration::from_millis(3)));
    wait_quiet(&handle);
    handle.advance_clock(handle.next_deadline().expect("two sleep"));
    fiber.join().expect("it sleeps").expect("nobody cancels it");
    wait_quiet(&handle);
    assert!(!other.is_done());
    // By the system's clock its time comes by itself.
    handle.release_clock();
    other.join().expect("it sleeps").expect("nobody cancels it");
}

#[test]
fn futures_sleep_by_the_same_clock() {
    let runtime = runtime(2);
    let handle = runtime.handle().clone();
    handle.stop_clock();
    let sleeps = handle.spawn_future(async { roving_runtime::sleep_future(HOUR).await });
    wait_quiet(&handle);
    handle.advance_clock(handle.now() + HOUR);
    sleeps.join().expect("it sleeps");
}

/// What eight fibers do that talk by a channel and a mutex, in the order they do it.
fn story(seed: u64) -> Vec<(u32, u32)> {
    let runtime = Runtime::builder()
        .workers(4)
        .seed(seed)
        .build()
        .expect("a runtime");
    let handle = runtime.handle().clone();
    assert_eq!(handle.metrics().workers.len(), 1);
    handle.stop_clock();
    let log = Arc::new(Mutex::new(Vec::new()));
    let theirs = log.clone();
    let all = runtime.spawn(move || {
        let lock = Arc::new(roving_runtime::sync::Mutex::new(()));
        let children: Vec<_> = (0..8_u32)
            .map(|number| {
                let (log, lock) = (theirs.clone(), lock.clone());
                roving_runtime::chance_to_switch();
                roving_runtime::spawn(move || {
                    for step in 0..4 {
                        roving_runtime::sleep(Duration::from_secs(u64::from(step % 2)))
                            .expect("nobody cancels it");
                        let _guard = lock.lock();
                        log.lock().expect("nobody panics").push((number, step));
                        roving_runtime::yield_now();
                    }
                })
            })
            .collect();
        children
            .into_iter()
            .for_each(|child| child.join().expect("it only logs"));
    });
    loop {
        wait_quiet(&handle);
        if all.is_done() {
            break;
        }
        handle.advance_clock(handle.next_deadline().expect("somebody sleeps"));
    }
    std::mem::take(&mut *log.lock().expect("nobody panics"))
}

#[test]
fn a_seed_gives_the_same_story_again_and_another_one_another() {
    let stories: Vec<_> = (0..20).map(story).collect();
    for (seed, told) in stories.iter().enumerate() {
        assert_eq!(told.len(), 32);
        assert_eq!(&story(seed as u64), told, "seed {seed}");
    }
    let different: std::collections::HashSet<_> = stories.iter().collect();
    assert!(different.len() > 15, "{}", different.len());
}

#[test]
fn a_seeded_runtime_starts_over() {
    let runtime = Runtime::builder().seed(1).build().expect("a runtime");
    let numbers = || {
        runtime
            .spawn(|| roving_runtime::chance().expect("on its worker"))
            .join()
    };
    let first = numbers().expect("it draws");
    assert_ne!(numbers().expect("it draws"), first);
    wait_quiet(runtime.handle());
    assert!(runtime.handle().reseed(1));
    assert_eq!(numbers().expect("it draws"), first);
    assert_eq!(roving_runtime::chance(), None);
}

#[test]
fn a_seeded_runtime_ends_with_fibers_left() {
    let runtime = Runtime::builder().seed(3).build().expect("a runtime");
    for _ in 0..20 {
        runtime.spawn(|| while roving_runtime::park().is_ok() {});
        runtime.spawn(|| {
            loop {
                roving_runtime::yield_now();
            }
        });
    }
    let policy = roving_runtime::DropPolicy::Abandon(Duration::from_millis(20));
    assert!(!runtime.shutdown(policy));
}
