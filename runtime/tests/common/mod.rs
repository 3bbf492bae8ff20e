//! What several test programs need.
#![allow(dead_code, reason = "each program uses a part")]

use roving_runtime::{DropPolicy, Runtime};
use std::process::{Command, Output};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A runtime of this many workers. A test that fails must not hang on fibers that wait for the rest of it,
/// so it is abandoned when it is dropped.
pub(crate) fn runtime(workers: usize) -> Runtime {
    let policy = DropPolicy::Abandon(Duration::from_secs(10));
    Runtime::builder()
        .workers(workers)
        .on_drop(policy)
        .build()
        .expect("a runtime")
}

/// As [`runtime`], but no worker ever counts as stuck: on a loaded machine one may, when the system does not run it
/// for a while, and then its work goes elsewhere, as it should. For tests of who runs what.
pub(crate) fn steady_runtime(workers: usize) -> Runtime {
    let builder = Runtime::builder()
        .workers(workers)
        .long_turn(Duration::from_secs(3600))
        .max_spares(0);
    builder
        .on_drop(DropPolicy::Abandon(Duration::from_secs(10)))
        .build()
        .expect("a runtime")
}

/// A one-shot event between plain threads and fibers on other workers. Blocks the thread that waits.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub(crate) fn wait(&self) {
        let opened = self.0.0.lock().unwrap();
        let (opened, _) = self
            .0
            .1
            .wait_timeout_while(opened, Duration::from_secs(60), |opened| !*opened)
            .unwrap();
        assert!(*opened, "the gate did not open within a minute");
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.0.0.lock().unwrap()
    }
}

const CHILD: &str = "ROVING_TEST_CHILD";

/// Runs `body` in a child process, by running the named test of this program again; `None` in the child.
pub(crate) fn in_child(test: &str, body: impl FnOnce()) -> Option<Output> {
    if std::env::var(CHILD).as_deref() == Ok(test) {
        body();
        std::process::exit(0);
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            test,
            "--exact",
            "--nocapture",
            "--test-threads=1",
            "--include-ignored",
        ])
        .env(CHILD, test)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("the test program runs");
    Some(output)
}

/// Processor time this process has used.
pub(crate) fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid clock and a place to write to.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A small generator (splitmix64) whose seed tests print.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
