//! Waiting for everything to end, but daemons; plain threads that are woken where they wait.

mod common;

use common::{Gate, runtime};
use roving_runtime::{PlainThread, park, park_timeout, sleep, spawn, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);

fn wait_idle(handle: &roving_runtime::Handle) {
    while !handle.wait_idle(None) {}
}

#[test]
fn it_waits_for_all_and_what_they_spawn() {
    let runtime = runtime(2);
    let ended = Arc::new(AtomicUsize::new(0));
    for _ in 0..20 {
        for _ in 0..50 {
            let ended = ended.clone();
            runtime.spawn(move || {
                let mine = ended.clone();
                spawn(move || {
                    sleep(Duration::from_millis(1)).unwrap();
                    mine.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
        wait_idle(runtime.handle());
        assert_eq!(ended.swap(0, Ordering::Relaxed), 50);
    }
    assert!(
        runtime.handle().wait_idle(Some(Duration::ZERO)),
        "nothing is there"
    );
}

#[test]
fn it_does_not_wait_for_daemons_even_busy_ones() {
    let runtime = runtime(1);
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let busy = runtime.fiber().daemon().spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            yield_now();
        }
    });
    let parked = runtime.fiber().daemon().spawn(park).unwrap();
    let gate = Gate::default();
    let opened = gate.clone();
    let fiber = runtime.spawn(move || opened.wait());
    assert!(!runtime.handle().wait_idle(Some(Duration::from_millis(5))));
    assert_eq!(runtime.handle().metrics().awaited, 1);
    gate.open();
    let began = Instant::now();
    wait_idle(runtime.handle());
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(fiber.is_done() && !parked.is_done());
    stop.store(true, Ordering::Relaxed);
    parked.cancel();
    busy.unwrap().wait().unwrap();
}

#[test]
fn a_daemon_hides_nobody_whenever_one_looks() {
    let runtime = runtime(2);
    for _ in 0..2000 {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let handle = runtime.handle().clone();
        runtime.spawn(move || {
            for _ in 0..3 {
                let daemon = handle.fiber().daemon().spawn(yield_now).unwrap();
                // One joined before it starts is counted twice, and one cancelled then ends on another thread.
                match handle.metrics().outstanding % 3 {
                    0 => daemon.wait().unwrap(),
                    1 => daemon.cancel(),
                    _ => yield_now(),
                }
            }
            ended.store(true, Ordering::Relaxed);
        });
        wait_idle(runtime.handle());
        assert!(seen.load(Ordering::Relaxed), "the fiber had not ended");
    }
    runtime.shutdown(roving_runtime::DropPolicy::Drain);
}

#[test]
fn a_thread_is_woken_where_it_waits() {
    let runtime = runtime(1);
    let fiber = runtime.spawn(park);
    let daemon = runtime.fiber().daemon().spawn(park).unwrap();
    let here = PlainThread::current();
    let (go, went) = std::sync::mpsc::channel();
    let waker = std::thread::spawn(move || {
        for () in went {
            here.unpark();
        }
    });
    // However the two meet: a wake that comes first counts.
    for _ in 0..100 {
        go.send(()).unwrap();
        assert_eq!(fiber.wait_interruptible(None), Ok(false));
        go.send(()).unwrap();
        assert!(!runtime.handle().wait_idle(None));
        go.send(()).unwrap();
        park().unwrap();
    }
    drop(go);
    waker.join().unwrap();
    fiber.cancel();
    while fiber.wait_interruptible(Some(LONG)) != Ok(true) {}
    daemon.cancel();
}

/// A signal's handler that runs on the thread ends the wait; one without SA_RESTART, and with a time limit, at least.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_ends_the_wait() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: all zeros is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    // SAFETY: the handler does nothing, and lives as long as the program.
    let installed = unsafe { libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()) };
    assert_eq!(installed, 0);
    let runtime = runtime(1);
    let fiber = runtime.spawn(park);
    // SAFETY: names this thread.
    let thread = unsafe { libc::pthread_self() };
    let over = Arc::new(AtomicBool::new(false));
    let seen = over.clone();
    let sender = std::thread::spawn(move || {
        // Again and again: one that comes before the wait has begun does not end it.
        while !seen.load(Ordering::Relaxed) {
            // SAFETY: the thread waits for us below.
            unsafe { libc::pthread_kill(thread, libc::SIGUSR2) };
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    let began = Instant::now();
    assert_eq!(fiber.wait_interruptible(Some(LONG)), Ok(false));
    assert!(!runtime.handle().wait_idle(Some(LONG)));
    park_timeout(LONG).unwrap();
    assert!(began.elapsed() < Duration::from_secs(60));
    over.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    fiber.cancel();
    fiber.wait().unwrap();
}
