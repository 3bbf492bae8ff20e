//! Fairness, the two classes, idleness, hooks, and faults that end the process.

mod common;

use common::{Gate, cpu_time, in_child, runtime, steady_runtime};
use roving_runtime::{FiberView, Hooks, Runtime, current_fiber, park, sleep, spawn, yield_now};
use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn a_fiber_that_yields_for_ever_starves_nobody() {
    let runtime = steady_runtime(1);
    let stop = Arc::new(AtomicBool::new(false));
    let spinners: Vec<_> = (0..3)
        .map(|_| {
            let stop = stop.clone();
            runtime.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    yield_now();
                }
            })
        })
        .collect();
    // New work from outside and from inside, a timer, and a wake from another thread all get through.
    runtime.spawn(|| spawn(|| ()).join().unwrap()).join().unwrap();
    runtime
        .spawn(|| sleep(Duration::from_millis(1)).unwrap())
        .join()
        .unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let parked = runtime.spawn(move || {
        send.send(current_fiber().unwrap()).unwrap();
        park().unwrap();
    });
    receive.recv().unwrap().unpark();
    parked.join().unwrap();
    stop.store(true, Ordering::Relaxed);
    for spinner in spinners {
        spinner.join().unwrap();
    }
}

#[test]
fn a_chain_of_fork_and_join_starves_nobody() {
    let runtime = runtime(1);
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let chain = runtime.spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            spawn(|| ()).join().unwrap();
        }
    });
    let inside = runtime.spawn(move || {
        for _ in 0..3 {
            yield_now();
        }
    });
    inside.join().unwrap();
    stop.store(true, Ordering::Relaxed);
    chain.join().unwrap();
}

#[test]
fn background_work_gets_its_share_and_no_more() {
    let runtime = steady_runtime(1);
    let turns = runtime
        .spawn(|| {
            let handle = roving_runtime::Handle::current().unwrap();
            let stop = Arc::new(AtomicBool::new(false));
            let counts: [Arc<AtomicUsize>; 2] = Default::default();
            for count in &counts {
                let (count, stop) = (count.clone(), stop.clone());
                let builder = handle.fiber();
                let builder = if Arc::ptr_eq(&count, &counts[1]) {
                    builder.background()
                } else {
                    builder
                };
                builder
                    .spawn(move || {
                        while !stop.load(Ordering::Relaxed) {
                            count.fetch_add(1, Ordering::Relaxed);
                            yield_now();
                        }
                    })
                    .unwrap();
            }
            for _ in 0..20_000 {
                yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            counts.map(|count| count.load(Ordering::Relaxed))
        })
        .join()
        .unwrap();
    let [normal, background] = turns;
    assert!(background * 20 >= normal, "starved: {turns:?}");
    assert!(
        background * 4 <= normal,
        "background took a normal share: {turns:?}"
    );
}

#[test]
fn background_work_of_the_first_worker_runs_while_all_are_busy() {
    let runtime = steady_runtime(2);
    let stop = Arc::new(AtomicBool::new(false));
    let seen: Arc<Mutex<HashSet<String>>> = Arc::default();
    let fibers: Vec<_> = (0..8)
        .map(|_| {
            let (stop, seen) = (stop.clone(), seen.clone());
            runtime.spawn(move || {
                let worker = std::thread::current().name().unwrap_or_default().to_owned();
                if seen.lock().unwrap().insert(worker.clone()) && worker == "roving-0" {
                    // Once the other has work of its own, which does not end before this is done.
                    while seen.lock().unwrap().len() < 2 {
                        yield_now();
                    }
                    let handle = roving_runtime::Handle::current().unwrap();
                    let background = (0..10).map(|_| handle.fiber().background().spawn(|| ()).unwrap());
                    for fiber in background.collect::<Vec<_>>() {
                        while !fiber.is_done() {
                            yield_now();
                        }
                    }
                    stop.store(true, Ordering::Relaxed);
                }
                while !stop.load(Ordering::Relaxed) {
                    yield_now();
                }
            })
        })
        .collect();
    for fiber in fibers {
        fiber.join().unwrap();
    }
}

#[test]
fn background_work_runs_when_there_is_nothing_else() {
    for workers in [1, 2, 4] {
        let runtime = steady_runtime(workers);
        let fibers: Vec<_> = (0..100)
            .map(|n| {
                runtime
                    .fiber()
                    .background()
                    .spawn(move || (n, std::thread::current().name().map(str::to_owned)))
            })
            .collect();
        for (n, fiber) in fibers.into_iter().enumerate() {
            let (m, worker) = fiber.unwrap().join().unwrap();
            assert_eq!(n, m);
            assert!(
                workers == 1 || worker.as_deref() != Some("roving-0"),
                "the first worker stays free"
            );
        }
    }
}

#[test]
fn an_idle_runtime_uses_no_processor_time() {
    let output = in_child("an_idle_runtime_uses_no_processor_time", || {
        let runtime = runtime(4);
        let parked: Vec<_> = (0..1000).map(|_| runtime.spawn(park)).collect();
        // Starting and parking has to settle, on a loaded machine for a while: then half a second is free.
        let idle = (0..20).any(|_| {
            let before = cpu_time();
            std::thread::sleep(Duration::from_millis(500));
            cpu_time() - before < Duration::from_millis(2)
        });
        assert!(idle, "never idle for half a second in ten");
        drop(parked);
    });
    let Some(output) = output else { return };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn every_worker_takes_part() {
    let runtime = runtime(4);
    // Four fibers that block their threads until all four run: they need four workers.
    let barrier = Arc::new(std::sync::Barrier::new(4));
    let fibers: Vec<_> = (0..4)
        .map(|_| {
            let barrier = barrier.clone();
            runtime.spawn(move || barrier.wait().is_leader())
        })
        .collect();
    assert_eq!(
        fibers
            .into_iter()
            .filter(|_| true)
            .map(|f| f.join().unwrap())
            .filter(|&leader| leader)
            .count(),
        1
    );
}

/// The newest work is its spawner's for a moment, but not for as long as the spawner computes: not even when the
/// thieves have learnt that they come too late most of the time.
#[test]
fn a_lone_child_of_a_fiber_that_computes_is_started_elsewhere() {
    let runtime = steady_runtime(2);
    let parent = runtime.spawn(|| {
        for round in 0..20 {
            for _ in 0..round * 100 {
                spawn(|| ()).join().unwrap();
            }
            let child = spawn(|| std::thread::current().id());
            while !child.is_done() {
                std::hint::spin_loop();
            }
            assert_ne!(child.join().unwrap(), std::thread::current().id());
        }
    });
    parent.join().unwrap();
}

/// Work that is spawned one by one starts in that order, the newest last.
#[test]
fn unstarted_fibers_start_in_the_order_they_were_spawned_in() {
    let runtime = steady_runtime(1);
    let order = runtime.spawn(|| {
        let order = Arc::new(Mutex::new(Vec::new()));
        let fibers: Vec<_> = (0..5)
            .map(|number| {
                let order = order.clone();
                spawn(move || order.lock().unwrap().push(number))
            })
            .collect();
        while fibers.iter().any(|fiber| !fiber.is_done()) {
            yield_now();
        }
        std::mem::take(&mut *order.lock().unwrap())
    });
    assert_eq!(order.join().unwrap(), [0, 1, 2, 3, 4]);
}

#[derive(Default, Clone)]
struct Recorder(Arc<Mutex<Vec<&'static str>>>);

impl Recorder {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }
}

static RESUMED: AtomicUsize = AtomicUsize::new(0);

impl Hooks for Recorder {
    const RESUMED: Option<fn(FiberView<'_>)> = Some(|fiber| {
        assert!(!fiber.word().is_null(), "the word set at the start is there");
        RESUMED.fetch_add(1, Ordering::Relaxed);
    });

    fn worker_start(&self, _: usize) {
        self.note("worker_start");
    }

    fn worker_stop(&self, _: usize) {
        self.note("worker_stop");
    }

    fn before_resume(&self, fiber: FiberView<'_>, first: bool) {
        if first {
            assert!(fiber.word().is_null());
            let (limit, base) = fiber.stack_bounds();
            assert!(base > limit && base - limit >= 400 << 10, "{limit:#x}..{base:#x}");
            fiber.set_word(std::ptr::dangling_mut());
            let area = fiber.area().expect("an area was asked for");
            assert_eq!(area.len(), 4096);
            // SAFETY: the room is the embedder's, and the fiber does not run.
            unsafe { area.cast::<u8>().write_bytes(7, area.len()) };
        }
        self.note(if first { "first" } else { "resume" });
    }

    fn after_suspend(&self, _: FiberView<'_>) {
        self.note("suspend");
    }

    fn fiber_end(&self, fiber: FiberView<'_>) {
        let area = fiber.area().unwrap();
        // SAFETY: still the embedder's, and nobody else writes it.
        let bytes = unsafe { area.as_ref() };
        assert!(
            bytes.iter().all(|&byte| byte == 7),
            "the fiber's own stack stays out of it"
        );
        self.note("end");
    }
}

#[test]
fn hooks_see_every_switch_in_order() {
    let recorder = Recorder::default();
    let runtime = Runtime::builder()
        .workers(1)
        .embedder_area(4096)
        .hooks(recorder.clone())
        .build()
        .expect("a runtime");
    runtime
        .spawn(|| {
            yield_now();
            yield_now();
        })
        .join()
        .unwrap();
    drop(runtime);
    let log = recorder.0.lock().unwrap().clone();
    assert_eq!(
        log,
        [
            "worker_start",
            "first",
            "suspend",
            "resume",
            "suspend",
            "resume",
            "end",
            "worker_stop"
        ]
    );
    assert_eq!(RESUMED.load(Ordering::Relaxed), 2);
}

struct Panicking;

impl Hooks for Panicking {
    fn fiber_end(&self, _: FiberView<'_>) {
        panic!("in a hook");
    }
}

#[test]
fn a_panic_in_a_hook_aborts_with_a_message() {
    let output = in_child("a_panic_in_a_hook_aborts_with_a_message", || {
        let runtime = Runtime::builder().workers(1).hooks(Panicking).build().unwrap();
        let _ = runtime.spawn(|| ()).join();
        Gate::default().wait();
    });
    let Some(output) = output else { return };
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("hooks; aborting"), "{stderr}");
}

#[test]
fn an_overflow_names_the_fiber_and_aborts() {
    #[allow(unconditional_recursion)]
    fn for_ever(n: u64) -> u64 {
        let page = std::hint::black_box([n; 64]);
        for_ever(n + 1) + page[3]
    }
    let output = in_child("an_overflow_names_the_fiber_and_aborts", || {
        let runtime = runtime(2);
        let fiber = runtime.fiber().name("bottomless").spawn(|| for_ever(0)).unwrap();
        let _ = fiber.join();
    });
    let Some(output) = output else { return };
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("bottomless") && stderr.contains("512 KiB"),
        "{stderr}"
    );
}

#[test]
fn an_unjoined_panic_is_reported() {
    let output = in_child("an_unjoined_panic_is_reported", || {
        let runtime = runtime(1);
        // Detached before and after the end.
        drop(
            runtime
                .fiber()
                .name("lost")
                .spawn(|| std::panic::resume_unwind(Box::new("first")))
                .unwrap(),
        );
        let kept = runtime.spawn(|| std::panic::resume_unwind(Box::new(String::from("second"))));
        kept.wait().unwrap();
        drop(kept);
        runtime.spawn(|| ()).join().unwrap();
    });
    let Some(output) = output else { return };
    assert!(output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("\"lost\" panicked and nobody joined it: first"),
        "{stderr}"
    );
    assert!(
        stderr.contains("panicked and nobody joined it: second"),
        "{stderr}"
    );
}
