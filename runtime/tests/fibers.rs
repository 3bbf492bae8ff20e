//! Spawning, joining, parking, cancelling, from fibers and from plain threads.

mod common;

use common::{Gate, Rng, runtime, steady_runtime};
use roving_runtime::{
    Cancelled, FiberLocal, JoinError, JoinHandle, checkpoint, current_fiber, park, park_timeout, scope,
    shield, sleep, spawn, yield_now,
};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn join_returns_the_value_from_threads_and_from_fibers() {
    for workers in [1, 2, 4] {
        let runtime = runtime(workers);
        assert_eq!(runtime.spawn(|| 6 * 7).join().unwrap(), 42);
        let sum: u64 = runtime
            .spawn(|| {
                let fibers: Vec<_> = (0..1000u64).map(|n| spawn(move || n)).collect();
                fibers.into_iter().map(|fiber| fiber.join().unwrap()).sum()
            })
            .join()
            .unwrap();
        assert_eq!(sum, 499_500);
    }
}

#[test]
fn a_borrowed_result_crosses_without_a_copy() {
    let runtime = runtime(2);
    let text = Arc::new(String::from("shared"));
    let inside = text.clone();
    let back = runtime.spawn(move || inside).join().unwrap();
    assert!(Arc::ptr_eq(&text, &back));
}

#[test]
fn a_panic_is_carried_to_the_joiner() {
    let runtime = runtime(2);
    let error = runtime
        .spawn(|| -> u32 { std::panic::resume_unwind(Box::new("boom")) })
        .join()
        .unwrap_err();
    assert_eq!(error.to_string(), "the fiber panicked: boom");
    let JoinError::Panicked(payload) = error else {
        panic!("{error}")
    };
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"boom"));
    assert_eq!(runtime.spawn(|| 1).join().unwrap(), 1, "the worker goes on");
}

#[test]
fn fibers_of_one_worker_start_in_spawn_order_and_take_turns() {
    let runtime = steady_runtime(1);
    let log = runtime
        .spawn(|| {
            let log = Arc::new(Mutex::new(Vec::new()));
            let fibers: Vec<_> = (0..3)
                .map(|name| {
                    let log = log.clone();
                    spawn(move || {
                        for step in 0..3 {
                            log.lock().unwrap().push((step, name));
                            yield_now();
                        }
                    })
                })
                .collect();
            // Waiting on the last would start it first: let the queue decide.
            while fibers.iter().any(|fiber| !fiber.is_done()) {
                yield_now();
            }
            Arc::into_inner(log).unwrap().into_inner().unwrap()
        })
        .join()
        .unwrap();
    let starts: Vec<_> = log
        .iter()
        .filter(|(step, _)| *step == 0)
        .map(|(_, name)| *name)
        .collect();
    assert_eq!(starts, [0, 1, 2]);
    for name in 0..3 {
        let steps: Vec<_> = log
            .iter()
            .filter(|entry| entry.1 == name)
            .map(|entry| entry.0)
            .collect();
        assert_eq!(steps, [0, 1, 2]);
    }
    assert_ne!(
        log[..3].iter().filter(|entry| entry.1 == log[0].1).count(),
        3,
        "they interleave: {log:?}"
    );
}

#[test]
fn a_started_fiber_never_changes_thread() {
    let runtime = runtime(4);
    let fibers: Vec<_> = (0..200)
        .map(|seed| {
            runtime.spawn(move || {
                let home = std::thread::current().id();
                let mut rng = Rng(seed);
                for _ in 0..50 {
                    match rng.below(4) {
                        0 => yield_now(),
                        1 => sleep(Duration::from_micros(rng.below(200))).unwrap(),
                        2 => spawn(|| ()).join().unwrap(),
                        _ => {
                            let me = current_fiber().unwrap();
                            let other = spawn(move || me.unpark());
                            park().unwrap();
                            other.join().unwrap();
                        }
                    }
                    assert_eq!(std::thread::current().id(), home);
                }
            })
        })
        .collect();
    for fiber in fibers {
        fiber.join().unwrap();
    }
}

#[test]
fn an_unpark_before_the_park_counts_once() {
    let runtime = runtime(1);
    runtime
        .spawn(|| {
            let me = current_fiber().unwrap();
            me.unpark();
            me.unpark();
            park().unwrap();
            // The second unpark added nothing: only the timeout ends this one.
            let before = Instant::now();
            park_timeout(Duration::from_millis(2)).unwrap();
            assert!(before.elapsed() >= Duration::from_millis(2));
        })
        .join()
        .unwrap();
}

#[test]
fn unparking_and_cancelling_the_dead_does_nothing() {
    let runtime = runtime(2);
    let handle = runtime.spawn(|| 5);
    let fiber = handle.fiber();
    assert_eq!(fiber.wait(None), Ok(true));
    fiber.unpark();
    fiber.cancel();
    handle.unpark();
    handle.cancel();
    assert_eq!(handle.join().unwrap(), 5);
    fiber.unpark();
    assert!(fiber.is_done());
}

#[test]
fn waiting_gives_up_at_the_timeout_and_can_go_on() {
    let runtime = runtime(2);
    let gate = Gate::default();
    let held = gate.clone();
    let handle = runtime.spawn(move || {
        while !held.is_open() {
            sleep(Duration::from_micros(100)).unwrap();
        }
        "done"
    });
    assert_eq!(handle.wait_timeout(Duration::from_millis(1)), Ok(false));
    gate.open();
    assert_eq!(handle.wait_timeout(LONG), Ok(true));
    assert_eq!(handle.join().unwrap(), "done");
}

#[test]
fn many_may_wait_for_one_end() {
    let runtime = runtime(4);
    let gate = Gate::default();
    let held = gate.clone();
    let handle = runtime.spawn(move || {
        while !held.is_open() {
            yield_now();
        }
    });
    let fibers: Vec<_> = (0..20)
        .map(|_| {
            let fiber = handle.fiber();
            runtime.spawn(move || fiber.wait(None).unwrap())
        })
        .collect();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let fiber = handle.fiber();
            std::thread::spawn(move || fiber.wait(None).unwrap())
        })
        .collect();
    gate.open();
    assert!(fibers.into_iter().all(|fiber| fiber.join().unwrap()));
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
}

#[test]
fn a_fiber_cannot_join_itself() {
    let runtime = runtime(1);
    let (give, take) = std::sync::mpsc::channel::<JoinHandle<()>>();
    let (report, reported) = std::sync::mpsc::channel();
    let fiber = runtime.spawn(move || {
        let me = loop {
            match take.try_recv() {
                Ok(me) => break me,
                Err(_) => yield_now(),
            }
        };
        report
            .send(matches!(me.join(), Err(JoinError::JoinedItself)))
            .unwrap();
    });
    give.send(fiber).unwrap();
    assert!(reported.recv().unwrap());
}

#[test]
fn a_fiber_cancelled_before_it_starts_never_runs() {
    let runtime = runtime(1);
    let ran = Arc::new(AtomicBool::new(false));
    let inside = ran.clone();
    let result = runtime
        .spawn(move || {
            let child = spawn(move || inside.store(true, Ordering::Relaxed));
            child.cancel();
            child.join()
        })
        .join()
        .unwrap();
    assert!(matches!(result, Err(JoinError::Cancelled)), "{result:?}");
    assert!(!ran.load(Ordering::Relaxed));
}

#[test]
fn cancellation_ends_every_kind_of_wait_and_stays() {
    let runtime = runtime(2);
    type Wait = Box<dyn FnOnce() -> Result<(), Cancelled> + Send>;
    let never = runtime.spawn(park);
    let never_ends = never.fiber();
    let waits: Vec<Wait> = vec![
        Box::new(park),
        Box::new(|| park_timeout(LONG)),
        Box::new(|| sleep(LONG)),
        Box::new(move || never_ends.wait(None).map(|_| ())),
        Box::new(|| {
            loop {
                checkpoint()?;
                yield_now();
            }
        }),
    ];
    for wait in waits {
        let started = Gate::default();
        let go = started.clone();
        let fiber = runtime.spawn(move || {
            go.open();
            let first = wait();
            // It stays set, so that clean-up that forgets to shield is told again.
            (
                first,
                park(),
                shield(|| park_timeout(Duration::from_millis(1))),
                checkpoint(),
            )
        });
        started.wait();
        fiber.cancel();
        let (first, again, shielded, after) = fiber.join().unwrap();
        assert_eq!(first, Err(Cancelled));
        assert_eq!(again, Err(Cancelled));
        assert_eq!(shielded, Ok(()));
        assert_eq!(after, Err(Cancelled));
    }
    never.cancel();
    assert_eq!(never.join().unwrap(), Err(Cancelled));
}

#[test]
fn a_cancelled_joiner_leaves_the_joined_alone() {
    let runtime = runtime(2);
    let gate = Gate::default();
    let held = gate.clone();
    let child = runtime.spawn(move || {
        while !held.is_open() {
            sleep(Duration::from_micros(50)).unwrap();
        }
        9
    });
    let watched = child.fiber();
    let joiner = runtime.spawn(move || {
        let first = child.wait();
        (first, child)
    });
    joiner.cancel();
    match joiner.join() {
        Ok((first, child)) => {
            assert_eq!(first, Err(Cancelled));
            gate.open();
            assert_eq!(child.join().unwrap(), 9);
        }
        // It had not started: then the handle went with its closure, and the child goes on detached.
        Err(JoinError::Cancelled) => {
            gate.open();
            assert_eq!(watched.wait(None), Ok(true));
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn scoped_fibers_borrow() {
    let runtime = runtime(4);
    let mut numbers: Vec<u64> = (0..10_000).collect();
    let total = runtime.handle().scope(|s| {
        let (left, right) = numbers.split_at_mut(5000);
        let doubled = s.spawn(|| left.iter_mut().for_each(|n| *n *= 2));
        s.spawn(|| {
            // Fibers of a scope may open scopes of their own and spawn into the outer one.
            scope(|inner| {
                for chunk in right.chunks_mut(100) {
                    inner.spawn(|| chunk.iter_mut().for_each(|n| *n *= 2));
                }
            });
            s.spawn(|| ());
        });
        doubled.join().unwrap();
        1
    });
    assert_eq!(total, 1);
    assert_eq!(numbers.iter().sum::<u64>(), 99_990_000);
}

#[test]
fn a_scope_waits_also_when_its_body_panics() {
    let runtime = runtime(2);
    let finished = AtomicUsize::new(0);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.handle().scope(|s| {
            for _ in 0..50 {
                s.spawn(|| {
                    yield_now();
                    finished.fetch_add(1, Ordering::Relaxed);
                });
            }
            std::panic::resume_unwind(Box::new("body"));
        });
    }));
    assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"body"));
    assert_eq!(finished.load(Ordering::Relaxed), 50);
}

#[test]
fn cancelling_the_owner_of_a_scope_cancels_its_fibers() {
    let runtime = runtime(2);
    let parked = Gate::default();
    let child_parked = parked.clone();
    let seen = Arc::new(Mutex::new(None));
    let report = seen.clone();
    let owner = runtime.spawn(move || {
        scope(|s| {
            s.spawn(|| {
                child_parked.open();
                *report.lock().unwrap() = Some(park());
            });
        });
    });
    parked.wait();
    owner.cancel();
    owner.join().unwrap();
    assert_eq!(*seen.lock().unwrap(), Some(Err(Cancelled)));
}

#[test]
fn locals_belong_to_the_fiber_and_end_with_it() {
    static COUNT: FiberLocal<Cell<u32>> = FiberLocal::new(|| Cell::new(0));
    struct Last(Arc<AtomicUsize>);
    impl Drop for Last {
        fn drop(&mut self) {
            // Destructors run on the fiber: they may use other locals, and park.
            COUNT.with(|count| count.set(count.get() + 1));
            yield_now();
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    static LAST: FiberLocal<RefCell<Option<Last>>> = FiberLocal::new(|| RefCell::new(None));
    let runtime = runtime(2);
    let dropped = Arc::new(AtomicUsize::new(0));
    let fibers: Vec<_> = (0..100)
        .map(|rounds| {
            let dropped = dropped.clone();
            runtime.spawn(move || {
                LAST.with(|last| *last.borrow_mut() = Some(Last(dropped)));
                for round in 0..rounds {
                    assert_eq!(COUNT.with(Cell::get), round);
                    COUNT.with(|count| {
                        yield_now();
                        count.set(count.get() + 1);
                    });
                }
            })
        })
        .collect();
    for fiber in fibers {
        fiber.join().unwrap();
    }
    assert_eq!(dropped.load(Ordering::Relaxed), 100);
    assert_eq!(COUNT.with(Cell::get), 0, "this thread has a value of its own");
}

#[test]
fn names_and_ids() {
    let runtime = runtime(1);
    let fiber = runtime
        .fiber()
        .name("resize")
        .spawn(|| current_fiber().unwrap())
        .unwrap();
    assert_eq!(fiber.name(), Some("resize"));
    let id = fiber.id();
    let inside = fiber.join().unwrap();
    assert_eq!((inside.id(), inside.name()), (id, Some("resize")));
    assert!(current_fiber().is_none());
    assert_ne!(runtime.spawn(|| ()).id(), id);
}

#[test]
fn deep_recursion_fits_a_larger_stack() {
    fn down(depth: u32) -> u32 {
        let page = std::hint::black_box([1u8; 4096]);
        if depth == 0 {
            0
        } else {
            down(depth - 1) + u32::from(page[17])
        }
    }
    let runtime = runtime(1);
    let fiber = runtime.fiber().stack_size(8 << 20).spawn(|| down(1000)).unwrap();
    assert_eq!(fiber.join().unwrap(), 1000);
}

#[test]
fn timers_wake_in_order_of_their_deadlines() {
    let runtime = runtime(1);
    let order = runtime
        .spawn(|| {
            let order = Arc::new(Mutex::new(Vec::new()));
            let fibers: Vec<_> = [30u64, 10, 20, 0]
                .into_iter()
                .map(|millis| {
                    let order = order.clone();
                    spawn(move || {
                        let before = Instant::now();
                        sleep(Duration::from_millis(millis)).unwrap();
                        assert!(before.elapsed() >= Duration::from_millis(millis));
                        order.lock().unwrap().push(millis);
                    })
                })
                .collect();
            for fiber in fibers {
                fiber.join().unwrap();
            }
            Arc::into_inner(order).unwrap().into_inner().unwrap()
        })
        .join()
        .unwrap();
    assert_eq!(order, [0, 10, 20, 30]);
}
