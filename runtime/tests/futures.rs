//! Stackless futures, waiting for them, and the blocking pool.

mod common;

use common::{Gate, in_child, runtime};
use roving_runtime::{
    Cancelled, DropPolicy, JoinError, Runtime, block_on, blocking, checkpoint, park, sleep, spawn,
    spawn_future, yield_now,
};
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Pending the first `n` times, waking itself each time.
fn pending(n: usize) -> impl Future<Output = usize> + Send {
    let mut left = n;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(n);
        }
        left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

/// A value that comes from elsewhere.
#[derive(Clone, Default)]
struct Promise(Arc<Mutex<(Option<u32>, Option<Waker>)>>);

impl Promise {
    fn keep(&self, value: u32) {
        let waker = {
            let mut state = self.0.lock().unwrap();
            state.0 = Some(value);
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wait(&self) -> impl Future<Output = u32> + Send + use<> {
        let state = self.0.clone();
        poll_fn(move |context| {
            let mut state = state.lock().unwrap();
            match state.0 {
                Some(value) => Poll::Ready(value),
                None => {
                    state.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

#[test]
fn futures_run_on_workers_and_are_joined_from_everywhere() {
    for workers in [1, 2, 4] {
        let runtime = runtime(workers);
        let handles: Vec<_> = (0..100)
            .map(|n| runtime.handle().spawn_future(pending(n)))
            .collect();
        for (n, handle) in handles.into_iter().enumerate() {
            assert_eq!(handle.join().unwrap(), n);
        }
        let sum = runtime.spawn(|| {
            let handles: Vec<_> = (0..100).map(|n| spawn_future(pending(n))).collect();
            handles
                .into_iter()
                .map(|handle| handle.join().unwrap())
                .sum::<usize>()
        });
        assert_eq!(sum.join().unwrap(), 4950);
        let nested = runtime.handle().spawn_future(async {
            let inner = spawn_future(pending(3));
            inner.await.unwrap() + spawn(|| 4).id().get().min(1) as usize
        });
        assert_eq!(nested.join().unwrap(), 4);
    }
}

#[test]
fn block_on_parks_a_fiber_and_blocks_a_thread() {
    let runtime = runtime(1);
    let promise = Promise::default();
    let (kept, waited) = (promise.clone(), promise.clone());
    let waiter = runtime.spawn(move || block_on(waited.wait()));
    // With one worker this fiber runs only if the other is parked.
    runtime.spawn(move || kept.keep(7)).join().unwrap();
    assert_eq!(waiter.join().unwrap(), Ok(7));

    let promise = Promise::default();
    let kept = promise.clone();
    let keeper = runtime.spawn(move || kept.keep(8));
    assert_eq!(block_on(promise.wait()), Ok(8));
    keeper.join().unwrap();
}

#[test]
fn cancelling_a_fiber_ends_its_block_on_and_drops_the_future() {
    struct Dropped(Gate);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.open();
        }
    }
    let runtime = runtime(2);
    let (polled, dropped) = (Gate::default(), Gate::default());
    let (inside, held) = (polled.clone(), Dropped(dropped.clone()));
    let fiber = runtime.spawn(move || {
        block_on(async move {
            let _held = held;
            poll_fn(|_| {
                inside.open();
                Poll::<()>::Pending
            })
            .await;
        })
    });
    polled.wait();
    fiber.cancel();
    assert_eq!(fiber.join().unwrap(), Err(Cancelled));
    dropped.wait();
}

#[test]
fn a_panic_in_a_future_is_carried_to_its_handle() {
    let runtime = runtime(1);
    let handle = runtime.handle().spawn_future(async {
        pending(1).await;
        std::panic::resume_unwind(Box::new("boom"));
    });
    let error = handle.join().unwrap_err();
    assert_eq!(error.to_string(), "the fiber panicked: boom");
    assert_eq!(
        runtime.handle().spawn_future(pending(2)).join().unwrap(),
        2,
        "the worker goes on"
    );
}

#[test]
fn a_future_that_blocks_is_told_not_to() {
    let runtime = runtime(1);
    let handle = runtime.handle().spawn_future(async { park() });
    let error = handle.join().unwrap_err().to_string();
    assert!(error.contains("stackless future tried to block"), "{error}");
}

#[test]
fn a_cancelled_future_is_dropped() {
    let runtime = runtime(1);
    let promise = Promise::default();
    let held = Arc::new(());
    let inside = held.clone();
    let waited = promise.wait();
    let handle = runtime.handle().spawn_future(async move {
        let _inside = inside;
        waited.await
    });
    handle.cancel();
    // Its drop is a turn of the worker: after a later one it has happened.
    while Arc::strong_count(&held) != 1 {
        runtime.spawn(yield_now).join().unwrap();
    }
}

#[test]
fn draining_waits_for_futures_that_wait() {
    let promise = Promise::default();
    let kept = promise.clone();
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let waited = promise.wait();
    runtime
        .handle()
        .spawn_future(async move {
            counted.fetch_add(waited.await as usize, Ordering::Relaxed);
        })
        .detach();
    let keeper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        kept.keep(5);
    });
    drop(runtime);
    assert_eq!(seen.load(Ordering::Relaxed), 5);
    keeper.join().unwrap();
}

#[test]
fn abandoning_drops_futures_that_wait() {
    let held = Arc::new(());
    let inside = held.clone();
    let runtime = runtime(1);
    let handle = runtime.handle().spawn_future(async move {
        let _inside = inside;
        std::future::pending::<()>().await;
    });
    runtime.spawn(|| ()).join().unwrap();
    assert!(!runtime.shutdown(DropPolicy::Abandon(Duration::ZERO)));
    handle.cancel();
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn a_future_woken_after_the_end_is_harmless() {
    let promise = Promise::default();
    let runtime = runtime(1);
    let waited = promise.wait();
    let handle = runtime.handle().spawn_future(waited);
    runtime.spawn(|| ()).join().unwrap();
    runtime.shutdown(DropPolicy::Abandon(Duration::ZERO));
    promise.keep(1);
    assert!(matches!(handle.join(), Err(JoinError::Abandoned)));
}

#[test]
fn blocking_calls_leave_the_worker_free() {
    let runtime = runtime(1);
    let gate = Gate::default();
    let (wait, open) = (gate.clone(), gate);
    let caller = runtime.spawn(move || {
        blocking(move || {
            wait.wait();
            std::thread::current().name().map(str::to_owned)
        })
    });
    runtime.spawn(move || open.open()).join().unwrap();
    assert_eq!(
        caller.join().unwrap().unwrap().as_deref(),
        Some("roving-blocking")
    );
}

#[test]
fn the_blocking_pool_grows_to_its_limit_and_queues_beyond() {
    let runtime = Runtime::builder()
        .workers(1)
        .blocking_threads(4)
        .on_drop(DropPolicy::Abandon(Duration::ZERO))
        .build()
        .unwrap();
    let barrier = Arc::new(std::sync::Barrier::new(5));
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let barrier = barrier.clone();
            runtime
                .handle()
                .spawn_blocking(move || barrier.wait().is_leader())
        })
        .collect();
    let queued: Vec<_> = (0..10)
        .map(|n| runtime.handle().spawn_blocking(move || n))
        .collect();
    let counts = || {
        let metrics = runtime.handle().metrics().blocking;
        (metrics.threads, metrics.queued)
    };
    while counts() != (4, 10) {
        std::thread::yield_now();
    }
    queued[3].cancel();
    barrier.wait();
    for call in calls {
        call.join().unwrap();
    }
    for (n, call) in queued.into_iter().enumerate() {
        match call.join() {
            Ok(value) => assert_eq!((value, n == 3), (n, false)),
            Err(JoinError::Cancelled) => assert_eq!(n, 3),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_panic_in_a_blocking_call_is_carried() {
    let runtime = runtime(1);
    let error = runtime
        .spawn(|| blocking(|| -> u8 { std::panic::resume_unwind(Box::new("pool")) }))
        .join();
    assert_eq!(
        error.unwrap().unwrap_err().to_string(),
        "the fiber panicked: pool"
    );
}

#[test]
fn a_stuck_worker_is_noticed_and_its_mail_is_taken() {
    let runtime = runtime(2);
    let gate = Gate::default();
    let (release, entered) = (gate.clone(), Gate::default());
    let inside = entered.clone();
    // Blocks its worker's thread until the other has run what placement gave to the stuck one.
    let stuck = runtime.spawn(move || {
        inside.open();
        release.wait();
    });
    entered.wait();
    let handle = runtime.handle().clone();
    while !handle.metrics().workers.iter().any(|worker| worker.stuck) {
        std::thread::yield_now();
    }
    assert!(
        handle
            .metrics()
            .workers
            .iter()
            .any(|worker| worker.running == Some(stuck.id().get()))
    );
    let fibers: Vec<_> = (0..50)
        .map(|n| runtime.fiber().spread().spawn(move || n).unwrap())
        .collect();
    for (n, fiber) in fibers.into_iter().enumerate() {
        assert_eq!(fiber.join().unwrap(), n);
    }
    gate.open();
    stuck.join().unwrap();
    runtime.spawn(|| ()).join().unwrap();
}

#[test]
fn timers_of_a_stuck_worker_fire() {
    // Both fibers on one worker of two: the sleeper's timer is in the stuck worker's queue, and when it
    // fires the wake is delivered, though the fiber itself has to wait for its worker.
    let output = in_child("timers_of_a_stuck_worker_fire", || {
        let runtime = runtime(1);
        let woken = Arc::new(Gate::default());
        let seen = woken.clone();
        // A future's wake goes to the injector, but with one worker nobody runs it: watch the timer instead.
        let sleeper = runtime.spawn(move || {
            sleep(Duration::from_millis(1)).unwrap();
            seen.open();
        });
        runtime.spawn(yield_now).join().unwrap();
        let handle = runtime.handle().clone();
        let id = sleeper.id();
        let blocker = runtime.spawn(move || {
            let state = || {
                handle
                    .dump()
                    .into_iter()
                    .find(|fiber| fiber.id == id)
                    .map(|fiber| fiber.state)
            };
            while state().is_some_and(|state| state != roving_runtime::FiberState::Active) {
                std::thread::yield_now();
            }
        });
        blocker.join().unwrap();
        woken.wait();
        sleeper.join().unwrap();
    });
    let Some(output) = output else { return };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_dump_tells_what_every_fiber_waits_for() {
    let runtime = runtime(2);
    let parked = runtime.fiber().name("parked").spawn(park).unwrap();
    let sleeping = runtime
        .fiber()
        .name("sleeping")
        .spawn(|| sleep(Duration::from_secs(3600)))
        .unwrap();
    let target = parked.fiber();
    let joining = runtime.fiber().name("joining");
    let (joining, line) = (joining.spawn(move || target.wait(None)).unwrap(), line!());
    let reason = |name: &str| {
        let found = runtime
            .handle()
            .dump()
            .into_iter()
            .find(|fiber| fiber.name.as_deref() == Some(name));
        found.map(|fiber| (format!("{:?}", fiber.state), fiber))
    };
    for (name, state) in [
        ("parked", "Parked(Park)"),
        ("sleeping", "Parked(Sleep)"),
        ("joining", "Parked(Join)"),
    ] {
        while reason(name).is_none_or(|(seen, _)| seen != state) {
            std::thread::yield_now();
        }
    }
    let (_, info) = reason("joining").unwrap();
    assert_eq!((info.site.line(), info.id), (line, joining.id()));
    assert!(
        info.to_string().contains("\"joining\" parked in Join for"),
        "{info}"
    );
    for fiber in [&parked, &sleeping] {
        fiber.cancel();
    }
    assert_eq!(joining.join().unwrap(), Ok(true));
    assert_eq!(
        (parked.join().unwrap(), sleeping.join().unwrap()),
        (Err(Cancelled), Err(Cancelled))
    );
    runtime.spawn(|| checkpoint().unwrap()).join().unwrap();
    while !runtime.handle().dump().is_empty() {
        std::thread::yield_now();
    }
}

#[test]
fn metrics_add_up() {
    let runtime = runtime(2);
    for _ in 0..100 {
        runtime.spawn(|| spawn(|| ()).join().unwrap()).join().unwrap();
    }
    while runtime.handle().metrics().outstanding != 0 {
        std::thread::yield_now();
    }
    let metrics = runtime.handle().metrics();
    let started: u64 = metrics.workers.iter().map(|worker| worker.started).sum();
    assert_eq!(started, 200);
    assert_eq!((metrics.stacks_live, metrics.stacks_leaked), (0, 0));
}
