//! Bad input and faults of the system, where they are not one room's affair: each is an error that says what to do,
//! nothing is lost, nothing hangs.

mod common;

use common::{in_child, runtime};
use roving_runtime::net::UnixStream;
use roving_runtime::{
    BuildError, DropPolicy, FiberView, Hooks, JoinError, JoinHandle, Runtime, StackError, current_fiber,
    park, scope, sleep, yield_now,
};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

fn limit(resource: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: a valid limit.
    let failed = unsafe { libc::setrlimit(resource, &raw const limit) };
    assert_eq!(failed, 0);
}

fn address_space() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("there is /proc");
    let pages: u64 = text
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    pages * 4096
}

fn named_threads(prefix: &str) -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("there is /proc");
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

/// The stacks will take all address space there is; what else the process allocates has its own from the beginning.
fn keep_room_for_the_heap() {
    // One heap for all threads, which never gives anything back, and grows by this much at a time.
    let options = [
        (libc::M_ARENA_MAX, 1),
        (libc::M_TRIM_THRESHOLD, i32::MAX),
        (libc::M_TOP_PAD, 32 << 20),
    ];
    for (option, value) in options {
        // SAFETY: takes numbers; only this thread allocates yet.
        assert_eq!(unsafe { libc::mallopt(option, value) }, 1);
    }
    // More than the heap has left, so that it grows now.
    let blocks: Vec<_> = (0..64).map(|_| vec![1_u8; 16 << 10]).collect();
    drop(std::hint::black_box(blocks));
}

#[test]
#[cfg_attr(feature = "asan", ignore = "the sanitizer needs address space of its own")]
fn fibers_without_stacks_end_with_an_error_and_the_others_go_on() {
    const MANY: usize = 1000;
    let test = "fibers_without_stacks_end_with_an_error_and_the_others_go_on";
    let output = in_child(test, || {
        keep_room_for_the_heap();
        let runtime = runtime(2);
        // A thread that starts allocates, and has no way to say that it cannot; that done, it takes its name.
        while named_threads("roving-") < 3 {
            std::thread::yield_now();
        }
        runtime.spawn(|| ()).join().unwrap();
        limit(libc::RLIMIT_AS, address_space() + (100 << 20));
        let fibers: Vec<_> = (0..MANY).map(|_| runtime.spawn(park)).collect();
        // All have a stack, or have ended.
        let parked = || {
            let metrics = runtime.handle().metrics();
            metrics.workers.iter().map(|worker| worker.live).sum::<usize>()
        };
        while fibers.iter().filter(|fiber| fiber.is_done()).count() + parked() < MANY {
            std::thread::yield_now();
        }
        let (without, with): (Vec<_>, Vec<_>) = fibers.into_iter().partition(JoinHandle::is_done);
        assert!(!with.is_empty() && !without.is_empty());
        for fiber in without {
            match fiber.join() {
                Err(JoinError::NoStack(error @ StackError::AddressSpace { .. })) => {
                    assert!(error.to_string().contains("ulimit -v"), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
        with.iter().for_each(JoinHandle::unpark);
        with.into_iter()
            .for_each(|fiber| assert_eq!(fiber.join().unwrap(), Ok(())));
        // The stacks that came back lie with the workers whose fibers had them, and the other may have none.
        let mut tries = (0..10_000).map(|_| runtime.spawn(|| 7).join());
        assert!(tries.any(|outcome| matches!(outcome, Ok(7))));
    });
    if let Some(output) = output {
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_plain_thread_without_a_descriptor_to_wait_on_is_told() {
    let test = "a_plain_thread_without_a_descriptor_to_wait_on_is_told";
    let output = in_child(test, || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let runtime = runtime(1);
        limit(libc::RLIMIT_NOFILE, 200);
        let files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        let error = ours.read(&mut [0]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        // A fiber needs none of its own.
        runtime.handle().scope(|scope| {
            let reader = scope.spawn(|| ours.read(&mut [0]));
            scope.spawn(|| theirs.write(b"x").unwrap());
            assert_eq!(reader.join().unwrap().unwrap(), 1);
        });
        drop(files);
        theirs.write(b"y").unwrap();
        assert_eq!(ours.read(&mut [0]).unwrap(), 1);
    });
    if let Some(output) = output {
        assert!(output.status.success(), "{output:?}");
    }
}

/// Builds a runtime with the variable as its parent has set it.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn child_asks_the_variable() {
    let built = Runtime::new();
    match std::env::var("ROVING_TEST_EXPECTED").as_deref() {
        Ok("refused") => {
            let error = built.map(drop).unwrap_err();
            assert!(matches!(error, BuildError::WorkersVariable { .. }), "{error}");
            assert!(error.to_string().contains("1 to 1024"), "{error}");
        }
        Ok(workers) => assert_eq!(
            built.unwrap().handle().metrics().workers.len().to_string(),
            workers
        ),
        Err(_) => {}
    }
}

#[test]
fn a_bad_worker_variable_is_refused_by_name() {
    let cases = ["", "0", "-1", "1025", "99999999999999999999", "two", "2.5"].map(|bad| (bad, "refused"));
    for (value, expected) in cases.into_iter().chain([("3", "3")]) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["child_asks_the_variable", "--exact", "--ignored"])
            .env("ROVING_WORKERS", value)
            .env("ROVING_TEST_EXPECTED", expected)
            .output()
            .expect("the test program runs");
        assert!(output.status.success(), "ROVING_WORKERS={value:?}: {output:?}");
    }
}

/// Panics in the hook of this name.
struct PanicIn(&'static str);

impl PanicIn {
    fn at(&self, hook: &str) {
        assert!(hook != self.0, "in the hook {hook}");
    }
}

impl Hooks for PanicIn {
    fn worker_start(&self, _: usize) {
        self.at("worker_start");
    }
    fn worker_stop(&self, _: usize) {
        self.at("worker_stop");
    }
    fn before_sleep(&self, _: usize) {
        self.at("before_sleep");
    }
    fn after_sleep(&self, _: usize) {
        self.at("after_sleep");
    }
    fn before_resume(&self, _: FiberView<'_>, _: bool) {
        self.at("before_resume");
    }
    fn after_suspend(&self, _: FiberView<'_>) {
        self.at("after_suspend");
    }
    fn fiber_end(&self, _: FiberView<'_>) {
        self.at("fiber_end");
    }
    fn turn(&self, _: usize) {
        self.at("turn");
    }
}

const HOOKS: [&str; 8] = [
    "worker_start",
    "worker_stop",
    "before_sleep",
    "after_sleep",
    "before_resume",
    "after_suspend",
    "fiber_end",
    "turn",
];

#[test]
#[ignore = "run by another test, in a process of its own"]
fn child_panics_in_a_hook() {
    let Ok(hook) = std::env::var("ROVING_TEST_HOOK") else {
        return;
    };
    let hook = HOOKS.into_iter().find(|known| *known == hook).expect("a hook");
    let runtime = Runtime::builder()
        .workers(1)
        .hooks(PanicIn(hook))
        .build()
        .unwrap();
    let _ = runtime
        .spawn(|| {
            yield_now();
            sleep(Duration::from_millis(5))
        })
        .join();
    runtime.shutdown(DropPolicy::Drain);
    panic!("the hook {hook} was not called, or its panic went by");
}

/// Never a hang, and never a worker that is quietly gone.
#[test]
fn a_panic_in_any_hook_aborts_with_a_message() {
    for hook in HOOKS {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["child_panics_in_a_hook", "--exact", "--ignored", "--nocapture"])
            .env("ROVING_TEST_HOOK", hook)
            .output()
            .expect("the test program runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{hook}: {stderr}");
        assert!(stderr.contains("hooks; aborting"), "{hook}: {stderr}");
        assert!(stderr.contains(&format!("in the hook {hook}")), "{stderr}");
    }
}

/// The other way is in `fibers.rs`: `JoinHandle::join`, which has an error to give.
#[test]
fn a_fiber_that_waits_for_itself_is_stopped() {
    let runtime = runtime(1);
    for timeout in [None, Some(Duration::from_millis(1))] {
        let waited = runtime.spawn(move || current_fiber().expect("in a fiber").wait(timeout));
        let Err(JoinError::Panicked(panic)) = waited.join() else {
            panic!("it waited for itself");
        };
        assert_eq!(
            panic.downcast_ref::<&str>(),
            Some(&"roving: a fiber waited for its own end")
        );
    }
}

#[test]
fn absurd_durations_neither_overflow_nor_end_early() {
    let runtime = runtime(1);
    let fiber = runtime.spawn(|| sleep(Duration::MAX));
    let other = runtime.spawn(|| scope(|s| s.spawn(|| sleep(Duration::MAX)).join()));
    sleep(Duration::ZERO).unwrap();
    runtime.spawn(|| sleep(Duration::ZERO)).join().unwrap().unwrap();
    while runtime.handle().dump().len() < 3 {
        std::thread::yield_now();
    }
    assert!(!fiber.is_done() && !other.is_done());
    fiber.cancel();
    other.cancel();
    assert!(fiber.join().unwrap().is_err());
    assert!(other.join().unwrap().is_err());
}
