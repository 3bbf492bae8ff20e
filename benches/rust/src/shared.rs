//! What the benches of all peers share.

use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a process is told once, before its first bench.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Workers of each runtime.
    pub workers: usize,
    /// Smaller sizes where a bench has a fixed one.
    pub quick: bool,
    /// Pin the workers of the runtimes that allow it to one core each: to tell what a scheduler costs from
    /// where the kernel puts its threads.
    pub pin: bool,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Sets the settings of this process. `may` knows one worker count a process, so there is no changing them.
///
/// # Panics
/// When they are set already.
pub fn configure(settings: Settings) {
    assert!(SETTINGS.set(settings).is_ok(), "configured twice");
    crate::peers::configure_may();
}

/// The settings of this process.
///
/// # Panics
/// Before [`configure`].
pub fn settings() -> Settings {
    *SETTINGS.get().expect("configure comes first")
}

/// Keeps the calling worker thread to one core, if that was asked for.
pub(crate) fn pin_worker(worker: usize) {
    if !settings().pin {
        return;
    }
    // SAFETY: an empty set is all zeros.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: this thread, and a set of that size.
    unsafe { libc::sched_getaffinity(0, size, &raw mut allowed) };
    // SAFETY: the index is below the set's size.
    let cores: Vec<usize> = (0..libc::CPU_SETSIZE as usize)
        .filter(|&core| unsafe { libc::CPU_ISSET(core, &allowed) })
        .collect();
    // SAFETY: as above.
    let mut ours: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the index comes from a set of the same size.
    unsafe { libc::CPU_SET(cores[worker % cores.len()], &mut ours) };
    // SAFETY: this thread, and a set of that size.
    unsafe { libc::sched_setaffinity(0, size, &raw const ours) };
}

/// How long so many operations took.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The time of all of them.
    pub elapsed: Duration,
    /// How many there were.
    pub ops: u64,
}

impl Sample {
    pub(crate) fn new(elapsed: Duration, ops: u64) -> Self {
        Self { elapsed, ops }
    }

    /// The median of single latencies, as if each operation had taken that long: a mean would tell of the
    /// few that were descheduled in the middle.
    pub(crate) fn median_of(mut nanos: Vec<u64>) -> Self {
        nanos.sort_unstable();
        let ops = nanos.len() as u64;
        let median = nanos.get(nanos.len() / 2).copied().unwrap_or(0);
        Self {
            elapsed: Duration::from_nanos(median * ops),
            ops,
        }
    }

    /// Nanoseconds an operation.
    pub fn nanos_per_op(&self) -> f64 {
        self.elapsed.as_nanos() as f64 / self.ops.max(1) as f64
    }
}

/// How many fibers a batch has.
pub(crate) const BATCH: u64 = 1_000;
/// Items in flight in a buffered channel.
pub(crate) const BUFFER: usize = 64;
/// Fibers that fight for one mutex.
pub(crate) const RIVALS: u64 = 4;
/// How long a timer that never fires is set to.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

/// Leaves of the skynet tree; every inner node has ten children.
pub(crate) fn skynet_leaves() -> u64 {
    if settings().quick { 10_000 } else { 1_000_000 }
}

/// Nodes below the root: the fibers that are spawned.
pub(crate) fn skynet_spawns(leaves: u64) -> u64 {
    std::iter::successors(Some(leaves), |&level| (level > 10).then_some(level / 10)).sum()
}

/// Timers pending at once.
pub(crate) fn timers() -> u64 {
    if settings().quick { 10_000 } else { 100_000 }
}

/// `fib(FIB)` with a fiber for every left branch.
pub(crate) const FIB: u64 = 22;
/// `fib(FIB_CUT)` with fibers above `CUT` only.
pub(crate) const FIB_CUT: u64 = 32;
pub(crate) const CUT: u64 = 20;

/// How many left branches `fib(n)` has down to `cut`.
pub(crate) fn fib_spawns(n: u64, cut: u64) -> u64 {
    if n <= cut {
        0
    } else {
        1 + fib_spawns(n - 1, cut) + fib_spawns(n - 2, cut)
    }
}

pub(crate) fn fib_alone(n: u64) -> u64 {
    if n < 2 {
        n
    } else {
        fib_alone(black_box(n - 1)) + fib_alone(n - 2)
    }
}

/// Leaves of the CPU-bound fork-join tree, and the work of each: a chain of dependent multiplications,
/// which every compiler leaves alone. About 0.3 ms.
pub(crate) const CHUNKS: u64 = 64;
const CHUNK_STEPS: u64 = 200_000;

pub(crate) fn chunk(seed: u64) -> u64 {
    let mut x = seed | 1;
    for _ in 0..CHUNK_STEPS {
        x = x.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ (x >> 29);
    }
    black_box(x)
}

/// Uses the processor for so long.
pub(crate) fn spin_for(duration: Duration) {
    let until = Instant::now() + duration;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

/// How long the waker leaves the other side alone: long enough for it to fall asleep.
pub(crate) const IDLE_GAP: Duration = Duration::from_micros(150);
/// Long enough for it to have parked, no more.
pub(crate) const BUSY_GAP: Duration = Duration::from_micros(3);

/// One wake after the other, from a waker that keeps its processor to a sleeper elsewhere.
pub(crate) struct WakeLatency {
    origin: Instant,
    sent: AtomicU64,
    answered: AtomicU64,
    number: AtomicU64,
}

impl WakeLatency {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            number: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// The waker's side: `wake` must make the sleeper run.
    pub(crate) fn drive(&self, rounds: u64, gap: Duration, wake: impl Fn()) -> Sample {
        let latencies = (1..=rounds).map(|round| {
            spin_for(gap);
            let sent = self.now();
            self.sent.store(sent, Ordering::Relaxed);
            self.number.store(round, Ordering::Release);
            wake();
            loop {
                match self.answered.load(Ordering::Acquire) {
                    0 => std::hint::spin_loop(),
                    at => {
                        self.answered.store(0, Ordering::Relaxed);
                        break at.saturating_sub(sent);
                    }
                }
            }
        });
        Sample::median_of(latencies.collect())
    }

    /// The sleeper's side: true when `round` has begun, and then it has been answered.
    pub(crate) fn answer(&self, round: u64) -> bool {
        if self.number.load(Ordering::Acquire) < round {
            return false;
        }
        self.answered.store(self.now(), Ordering::Release);
        true
    }
}

/// Whose turn it is: parks may return early, so they are only hints.
pub(crate) struct Turn(AtomicU64);

impl Turn {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn is(&self, turn: u64) -> bool {
        self.0.load(Ordering::Acquire) == turn
    }

    pub(crate) fn pass(&self) {
        self.0
            .store(self.0.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}
