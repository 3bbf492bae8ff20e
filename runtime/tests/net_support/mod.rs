//! What the tests of sockets and descriptors have in common.
#![allow(dead_code, reason = "not every test uses all of it")]

use roving_runtime::net::{TcpListener, TcpStream};
use roving_runtime::{JoinHandle, Runtime, yield_now};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// Runs `test` on runtimes of one, two and four workers, and aborts if it hangs.
pub(crate) fn on_workers(test: impl Fn(&Runtime)) {
    for workers in [1, 2, 4] {
        let _watchdog = Watchdog::new();
        test(&runtime(workers));
    }
}

/// Without spares: on one worker, what a fiber does before it parks comes before what the others do.
pub(crate) fn runtime(workers: usize) -> Runtime {
    let builder = Runtime::builder().workers(workers).max_spares(0);
    builder.build().expect("a runtime")
}

/// Aborts the process when it is not dropped in time: a lost wake-up would otherwise show as a silent hang.
pub(crate) struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    pub(crate) fn new() -> Self {
        let (alive, ends) = channel();
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        std::thread::spawn(move || {
            if ends.recv_timeout(Duration::from_secs(limit()))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                eprintln!("{name} hangs");
                std::process::abort();
            }
        });
        Self { _alive: alive }
    }
}

/// In seconds.
fn limit() -> u64 {
    std::env::var("ROVING_TEST_LIMIT")
        .ok()
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(60)
}

/// Said once, heard by fibers that look again and again.
#[derive(Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn wait(&self) {
        while !self.0.load(Ordering::Acquire) {
            yield_now();
        }
    }
}

/// Spawns `body`, which raises the flag it is given right before it waits, and returns once it has. On one
/// worker the fiber is then parked; on more, it is about to be.
pub(crate) fn spawn_waiting<T: Send + 'static>(
    runtime: &Runtime,
    body: impl FnOnce(&Flag) -> T + Send + 'static,
) -> JoinHandle<T> {
    let flag = std::sync::Arc::new(Flag::default());
    let theirs = flag.clone();
    let fiber = runtime.spawn(move || body(&theirs));
    // In a fiber: on one worker it gets its turn only when the other has parked.
    runtime
        .spawn(move || flag.wait())
        .join()
        .expect("the flag is raised");
    fiber
}

/// As [`spawn_waiting`], called in a fiber.
pub(crate) fn spawn_waiting_here<T: Send + 'static>(
    body: impl FnOnce(&Flag) -> T + Send + 'static,
) -> JoinHandle<T> {
    let flag = std::sync::Arc::new(Flag::default());
    let theirs = flag.clone();
    let fiber = roving_runtime::spawn(move || body(&theirs));
    flag.wait();
    fiber
}

/// A listener on a port of its own.
pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let addr = listener.local_addr().expect("an address");
    (listener, addr)
}

/// Two ends of a connection.
pub(crate) fn pair() -> (TcpStream, TcpStream) {
    let (listener, addr) = listen();
    let client = TcpStream::connect(addr).expect("it listens");
    (client, listener.accept().expect("there is a connection").0)
}

/// A plain thread that runs `wait`; returns once it is blocked in poll(2), where it alone can be woken from.
pub(crate) fn spawn_polling<T: Send + 'static>(
    wait: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let (said, heard) = channel();
    let thread = std::thread::spawn(move || {
        // SAFETY: takes no pointers.
        said.send(unsafe { libc::gettid() }).expect("the test listens");
        wait()
    });
    let file = format!(
        "/proc/self/task/{}/syscall",
        heard.recv().expect("it speaks first")
    );
    let polling = |call: &str| {
        [libc::SYS_ppoll.to_string(), "7".to_owned()]
            .iter()
            .any(|number| call == number)
    };
    while !std::fs::read_to_string(&file).is_ok_and(|call| call.split(' ').next().is_some_and(polling)) {
        assert!(!thread.is_finished(), "it did not wait");
        std::thread::yield_now();
    }
    thread
}

/// Splitmix64 (Steele, Lea and Flood 2014).
pub(crate) struct Rng(u64);

impl Rng {
    /// Seeded by `ROVING_SEED`, or by `default`; the seed is printed.
    pub(crate) fn new(default: u64) -> Self {
        let seed = std::env::var("ROVING_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or(default);
        eprintln!("ROVING_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

const CHILD: &str = "ROVING_TEST_CHILD";

/// Whether this process was started by [`child`].
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// This test program again, to run one test of its own, for what concerns a whole process.
pub(crate) fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command
        .args([
            "--exact",
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
            test,
        ])
        .env(CHILD, "1");
    command
}

/// Runs `test` in a child process.
pub(crate) fn run_in_child(test: &str) {
    let output = child(test).output().expect("a child process");
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{test} in a child process: {}\n{text}",
        output.status
    );
    assert!(
        text.contains("1 passed"),
        "{test} is no test of this program:\n{text}"
    );
}
