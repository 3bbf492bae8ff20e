//! Cancellation, refusal and abandonment, at every wait there is.

use crate::support::{LONG, on_each, until_parked};
use roving_runtime::sync::channel::{
    RecvError, RecvTimeoutError, Select, SelectError, SelectTimeoutError, SendError, SendTimeoutError,
    rendezvous,
};
use roving_runtime::sync::{
    AcquireError, AcquireTimeoutError, Barrier, BarrierError, Condvar, Event, LockError, LockTimeoutError,
    Mutex, Once, OnceError, RawMutex, RwLock, Semaphore,
};
use roving_runtime::{Cancelled, DropPolicy, Runtime, WaitReason, current_fiber, shield, yield_now};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One of each, in a state in which every wait waits.
struct Everything {
    mutex: Mutex<()>,
    raw: RawMutex,
    lock: RwLock<()>,
    condition: Condvar,
    semaphore: Semaphore,
    event: Event,
    barrier: Barrier,
    once: Once,
}

impl Everything {
    fn new() -> Arc<Self> {
        let everything = Self {
            mutex: Mutex::new(()),
            raw: RawMutex::new(),
            lock: RwLock::new(()),
            condition: Condvar::new(),
            semaphore: Semaphore::new(0),
            event: Event::new(),
            barrier: Barrier::new(2),
            once: Once::new(),
        };
        assert!(everything.raw.try_lock());
        Arc::new(everything)
    }
}

/// A wait: what it waits for, and whether it ended by the cancellation.
type Wait = (WaitReason, fn(&Everything) -> bool);

const WAITS: &[Wait] = &[
    (WaitReason::Mutex, |all| {
        matches!(all.mutex.lock(), Err(LockError::Cancelled))
    }),
    (WaitReason::Mutex, |all| {
        matches!(all.mutex.lock_timeout(LONG), Err(LockTimeoutError::Cancelled))
    }),
    (WaitReason::Mutex, |all| all.raw.lock() == Err(Cancelled)),
    (WaitReason::Mutex, |all| {
        all.raw.lock_until(Some(Instant::now() + LONG)) == Err(Cancelled)
    }),
    (WaitReason::RwLock, |all| {
        matches!(all.lock.read(), Err(LockError::Cancelled))
    }),
    (WaitReason::RwLock, |all| {
        matches!(all.lock.read_timeout(LONG), Err(LockTimeoutError::Cancelled))
    }),
    (WaitReason::RwLock, |all| {
        matches!(all.lock.write(), Err(LockError::Cancelled))
    }),
    (WaitReason::RwLock, |all| {
        matches!(all.lock.write_timeout(LONG), Err(LockTimeoutError::Cancelled))
    }),
    (WaitReason::Condvar, |all| {
        let private = Mutex::new(());
        all.condition.wait(private.lock().unwrap()).is_err()
    }),
    (WaitReason::Condvar, |all| {
        let private = Mutex::new(());
        all.condition.wait_timeout(private.lock().unwrap(), LONG).is_err()
    }),
    (WaitReason::Semaphore, |all| {
        matches!(all.semaphore.acquire(), Err(AcquireError::Cancelled))
    }),
    (WaitReason::Semaphore, |all| {
        matches!(
            all.semaphore.acquire_many_timeout(3, LONG),
            Err(AcquireTimeoutError::Cancelled)
        )
    }),
    (WaitReason::Event, |all| all.event.wait() == Err(Cancelled)),
    (WaitReason::Event, |all| {
        all.event.wait_timeout(LONG) == Err(Cancelled)
    }),
    (WaitReason::Barrier, |all| {
        all.barrier.wait() == Err(BarrierError::Cancelled)
    }),
    (WaitReason::Barrier, |all| {
        all.barrier.wait_timeout(LONG) == Err(BarrierError::Cancelled)
    }),
    (WaitReason::Once, |all| {
        all.once.call_once(|| unreachable!()) == Err(OnceError::Cancelled)
    }),
    (WaitReason::Send, |_| {
        let (sender, _receiver) = rendezvous();
        sender.send(1) == Err(SendError::Cancelled(1))
    }),
    (WaitReason::Send, |_| {
        let (sender, _receiver) = rendezvous();
        sender.send_timeout(1, LONG) == Err(SendTimeoutError::Cancelled(1))
    }),
    (WaitReason::Recv, |_| {
        let (_sender, receiver) = rendezvous::<()>();
        receiver.recv() == Err(RecvError::Cancelled)
    }),
    (WaitReason::Recv, |_| {
        let (_sender, receiver) = rendezvous::<()>();
        receiver.recv_timeout(LONG) == Err(RecvTimeoutError::Cancelled)
    }),
    (WaitReason::Recv, |_| {
        let (_sender, receiver) = rendezvous::<()>();
        receiver.iter().count() == 0
    }),
    (WaitReason::Select, |_| {
        let (sender, receiver) = rendezvous();
        let mut select = Select::new();
        select.recv(&receiver);
        let send = select.send(&sender, 1);
        let ended = select.wait().unwrap_err() == SelectError::Cancelled;
        ended && select.take_unsent(send, &sender) == Some(1)
    }),
    (WaitReason::Select, |_| {
        let mut select = Select::new();
        select.wait_timeout(LONG).unwrap_err() == SelectTimeoutError::Cancelled
    }),
];

/// Runs `test` while nothing can be had, and then looks whether all is as it was.
fn while_all_is_taken(runtime: &Runtime, test: impl Fn(&Arc<Everything>)) {
    let all = Everything::new();
    let (mutex, lock) = (all.mutex.lock().unwrap(), all.lock.write().unwrap());
    let (initialising, done) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let initialiser = runtime.spawn({
        let (all, initialising, done) = (all.clone(), initialising.clone(), done.clone());
        move || {
            let call = all.once.call_once(|| {
                initialising.set();
                done.wait().unwrap();
            });
            call.unwrap();
        }
    });
    initialising.wait().unwrap();
    until_parked(runtime, WaitReason::Event, 1);
    test(&all);
    done.set();
    initialiser.join().unwrap();
    drop((mutex, lock));
    drop(all.mutex.try_lock().unwrap());
    drop(all.lock.try_write().unwrap());
    drop((all.lock.read().unwrap(), all.lock.read().unwrap()));
    assert!(!all.condition.notify_one());
    all.semaphore.add_permits(1);
    drop(all.semaphore.try_acquire().unwrap());
    assert!(all.raw.unlock() && all.raw.try_lock());
    assert_eq!(all.barrier.waiting(), 0);
    assert!(all.once.is_completed());
}

#[test]
fn every_wait_ends_by_a_cancellation() {
    on_each(|runtime| {
        while_all_is_taken(runtime, |all| {
            for (number, &(reason, wait)) in WAITS.iter().enumerate() {
                let before = usize::from(reason == WaitReason::Event);
                let fiber = runtime.spawn({
                    let all = all.clone();
                    move || wait(&all)
                });
                until_parked(runtime, reason, before + 1);
                fiber.cancel();
                assert!(fiber.join().unwrap(), "wait {number}, for {reason:?}");
                // And one that was cancelled before it waits does not begin to.
                let fiber = runtime.spawn({
                    let all = all.clone();
                    move || {
                        current_fiber().unwrap().cancel();
                        all.barrier.reset();
                        wait(&all)
                    }
                });
                assert!(fiber.join().unwrap(), "wait {number}, for {reason:?}, late");
                all.barrier.reset();
            }
        });
    });
}

/// A stackless future that would have to wait panics instead, and leaves no trace.
#[test]
fn every_wait_is_refused_where_one_may_not_block() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    while_all_is_taken(&runtime, |all| {
        for (number, &(reason, wait)) in WAITS.iter().enumerate() {
            let future = runtime.handle().spawn_future({
                let all = all.clone();
                async move { catch_unwind(AssertUnwindSafe(|| wait(&all))).is_err() }
            });
            assert!(future.join().unwrap(), "wait {number}, for {reason:?}");
        }
    });
}

/// Nor does it keep what there is from others.
#[test]
fn a_refused_wait_does_not_count_as_one_that_waits() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let (semaphore, lock) = (Arc::new(Semaphore::new(1)), Arc::new(RwLock::new(())));
    let reader = lock.read().unwrap();
    let future = runtime.handle().spawn_future({
        let (semaphore, lock) = (semaphore.clone(), lock.clone());
        async move {
            let refused = |wait: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(wait)).is_err());
            refused(&|| drop(semaphore.acquire_many(2)));
            drop(semaphore.try_acquire().unwrap());
            refused(&|| drop(lock.write()));
            drop(lock.try_read().unwrap());
            let (sender, receiver) = rendezvous::<()>();
            let mut select = Select::new();
            select.recv(&receiver);
            assert!(catch_unwind(AssertUnwindSafe(|| drop(select.wait()))).is_err());
            // It holds no lock of the channel's.
            assert!(sender.try_send(()).is_err());
        }
    });
    future.join().unwrap();
    drop(reader);
}

#[test]
fn waits_in_a_shield_succeed_and_the_cancellation_shows_after_it() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let (inside, go_on) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let fiber = runtime.spawn({
        let (inside, go_on) = (inside.clone(), go_on.clone());
        move || {
            let shielded = shield(|| {
                inside.set();
                go_on.wait()
            });
            let (_sender, receiver) = rendezvous::<()>();
            (shielded, receiver.recv())
        }
    });
    inside.wait().unwrap();
    until_parked(&runtime, WaitReason::Event, 1);
    fiber.cancel();
    // It wakes up, and goes on waiting.
    runtime.spawn(yield_now).join().unwrap();
    until_parked(&runtime, WaitReason::Event, 1);
    go_on.set();
    assert_eq!(fiber.join().unwrap(), (Ok(()), Err(RecvError::Cancelled)));
}

/// What waits on a stack that nobody will ever run again does not count.
#[test]
fn an_abandoned_fiber_is_passed_over() {
    let runtime = Runtime::builder()
        .workers(1)
        .on_drop(DropPolicy::Abandon(Duration::ZERO))
        .build()
        .unwrap();
    let all = Everything::new();
    let (sender, receiver) = rendezvous();
    let mutex = Arc::new(Mutex::new(()));
    let guard = mutex.lock().unwrap();
    runtime.spawn({
        let all = all.clone();
        move || shield(|| all.semaphore.acquire().map(drop))
    });
    runtime.spawn({
        let mutex = mutex.clone();
        move || shield(|| mutex.lock().map(drop).is_ok())
    });
    let abandoned = receiver.clone();
    runtime.spawn(move || shield(|| abandoned.recv()));
    until_parked(&runtime, WaitReason::Semaphore, 1);
    until_parked(&runtime, WaitReason::Mutex, 1);
    until_parked(&runtime, WaitReason::Recv, 1);
    drop(runtime);
    let others = [
        std::thread::spawn({
            let all = all.clone();
            move || all.semaphore.acquire_timeout(LONG).map(drop).is_ok()
        }),
        std::thread::spawn({
            let mutex = mutex.clone();
            move || mutex.lock_timeout(LONG).map(drop).is_ok()
        }),
        std::thread::spawn(move || receiver.recv_timeout(LONG) == Ok(5)),
    ];
    all.semaphore.add_permits(1);
    drop(guard);
    sender.send(5).unwrap();
    for other in others {
        assert!(other.join().unwrap());
    }
}
