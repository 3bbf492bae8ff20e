//! Building a runtime, and the ways it ends.

mod common;

use common::{Gate, runtime};
use roving_runtime::{
    Cancelled, DropPolicy, Handle, JoinError, Runtime, SpawnErrorKind, current_fiber, park, shield, sleep,
    spawn, yield_now,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn nothing_is_spawned_after_the_end_and_the_closure_comes_back() {
    let runtime = runtime(1);
    let handle = runtime.handle().clone();
    assert!(runtime.shutdown(DropPolicy::Drain));
    let error = handle.fiber().spawn(|| 7).unwrap_err();
    assert_eq!(error.kind, SpawnErrorKind::ShutDown);
    assert_eq!((error.closure)(), 7);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle.spawn(|| ()))).unwrap_err();
    assert!(
        panic.downcast_ref::<String>().unwrap().contains("shut down"),
        "{panic:?}"
    );
}

#[test]
fn dropping_drains() {
    let done = Arc::new(AtomicUsize::new(0));
    {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        for _ in 0..100 {
            let done = done.clone();
            runtime.spawn(move || {
                for _ in 0..10 {
                    yield_now();
                }
                // Children spawned while it drains are waited for too.
                let done = done.clone();
                spawn(move || {
                    sleep(Duration::from_millis(1)).unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
    }
    assert_eq!(done.load(Ordering::Relaxed), 100);
}

#[test]
fn abandoning_cancels_then_lets_go() {
    let runtime = runtime(2);
    let polite_begun = Gate::default();
    let gate = polite_begun.clone();
    let polite = runtime.spawn(move || {
        gate.open();
        park()
    });
    let stubborn_parked = Gate::default();
    let gate = stubborn_parked.clone();
    let stubborn = runtime.spawn(move || {
        shield(|| {
            gate.open();
            loop {
                let _ = park();
            }
        });
    });
    let unstarted_after = runtime.handle().clone();
    stubborn_parked.wait();
    polite_begun.wait();
    // All of this time passes: the stubborn one takes it. The polite one needs a turn within it, on whatever machine.
    assert!(
        !runtime.shutdown(DropPolicy::Abandon(Duration::from_secs(1))),
        "one fiber had not ended"
    );
    assert_eq!(polite.join().unwrap(), Err(Cancelled));
    let outcome: Result<(), JoinError> = stubborn.join();
    assert!(matches!(outcome, Err(JoinError::Abandoned)), "{outcome:?}");
    assert!(unstarted_after.fiber().spawn(|| ()).is_err());
}

#[test]
fn waking_an_abandoned_fiber_is_harmless() {
    let runtime = runtime(1);
    let (send, receive) = std::sync::mpsc::channel();
    runtime.spawn(move || {
        send.send(current_fiber().unwrap()).unwrap();
        shield(|| {
            loop {
                let _ = park();
            }
        });
    });
    let fiber = receive.recv().unwrap();
    runtime.shutdown(DropPolicy::Abandon(Duration::ZERO));
    fiber.unpark();
    fiber.cancel();
    assert_eq!(fiber.wait(Some(LONG)), Ok(true));
}

#[test]
fn a_runtime_may_be_dropped_by_its_own_fiber() {
    let runtime = runtime(2);
    let handle = runtime.handle().clone();
    let (send, receive) = std::sync::mpsc::channel();
    handle.spawn(move || {
        drop(runtime);
        send.send(()).unwrap();
    });
    receive.recv_timeout(Duration::from_secs(60)).unwrap();
    while handle.fiber().spawn(|| ()).is_ok() {
        std::thread::yield_now();
    }
}

#[test]
fn two_runtimes_do_not_mix() {
    let (one, two) = (runtime(1), runtime(1));
    let two_handle = two.handle().clone();
    let (here, there) = one
        .spawn(move || {
            let here = std::thread::current().id();
            let there = two_handle.spawn(|| std::thread::current().id()).join().unwrap();
            (here, there)
        })
        .join()
        .unwrap();
    assert_ne!(here, there);
    assert_eq!(two.spawn(|| std::thread::current().id()).join().unwrap(), there);
}

#[test]
fn bad_settings_are_named() {
    let error = |builder: roving_runtime::Builder| builder.build().map(drop).unwrap_err().to_string();
    assert_eq!(
        error(Runtime::builder().workers(0)),
        "a runtime has 1 to 1024 workers, not 0: ask for as many as there are cores"
    );
    assert!(error(Runtime::builder().workers(1_000_000)).contains("1000000"));
    assert!(error(Runtime::builder().stack_size(0)).contains('0'));
    assert!(error(Runtime::builder().stack_size(usize::MAX)).contains("stack"));
    assert!(error(Runtime::builder().embedder_area(1 << 30)).contains("1073741824"));
    let runtime = runtime(1);
    let refused = runtime.fiber().stack_size(0).spawn(|| 3).unwrap_err();
    assert!(matches!(refused.kind, SpawnErrorKind::Stack(_)));
    assert_eq!((refused.closure)(), 3);
}

#[test]
fn spawn_outside_a_runtime_says_what_to_do() {
    let panic = std::panic::catch_unwind(|| spawn(|| ())).unwrap_err();
    let message = panic.downcast_ref::<&str>().unwrap();
    assert!(message.contains("Runtime::spawn"), "{message}");
    assert!(Handle::current().is_none());
}

#[test]
fn abandoning_cancels_fibers_that_have_not_waited_yet() {
    let runtime = runtime(1);
    let (running, go_on) = (Gate::default(), Gate::default());
    let (inside, held) = (running.clone(), go_on.clone());
    // Busy until the runtime is being abandoned, it waits for the first time after that.
    let fiber = runtime.spawn(move || {
        inside.open();
        held.wait();
        park()
    });
    running.wait();
    let handle = runtime.handle().clone();
    let ender = std::thread::spawn(move || runtime.shutdown(DropPolicy::Abandon(LONG)));
    while handle.fiber().spawn(|| ()).is_ok() {
        std::thread::yield_now();
    }
    go_on.open();
    assert_eq!(fiber.join().unwrap(), Err(Cancelled));
    assert!(ender.join().unwrap(), "nothing was left behind");
}
