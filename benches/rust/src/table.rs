//! Which benches there are, and which peers take part.

use crate::peers;
use crate::shared::Sample;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// This project's runtime.
    Roving,
    /// tokio's multi-thread runtime.
    Tokio,
    /// may's coroutines.
    May,
    /// Threads of the operating system through std.
    Threads,
}

impl Peer {
    /// All of them, in the order of the tables.
    pub const ALL: [Peer; 4] = [Peer::Roving, Peer::Tokio, Peer::May, Peer::Threads];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Roving => "roving",
            Peer::Tokio => "tokio",
            Peer::May => "may",
            Peer::Threads => "threads",
        }
    }

    /// The peer of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.name() == name)
    }
}

/// With how many workers a bench is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerCounts {
    /// One, on one core.
    One,
    /// As many as there are cores to use.
    Many,
    /// One, and as many as there are cores.
    Both,
}

impl WorkerCounts {
    /// Its name in the list that `benches/run` reads.
    pub fn name(self) -> &'static str {
        match self {
            WorkerCounts::One => "one",
            WorkerCounts::Many => "many",
            WorkerCounts::Both => "both",
        }
    }
}

/// One line of the tables.
#[derive(Debug, Clone, Copy)]
pub struct Bench {
    /// What it is called.
    pub name: &'static str,
    /// With how many workers it runs.
    pub workers: WorkerCounts,
    /// What one operation is.
    pub op: &'static str,
}

const fn bench(name: &'static str, workers: WorkerCounts, op: &'static str) -> Bench {
    Bench { name, workers, op }
}

/// All benches, in the order of the tables.
pub const BENCHES: &[Bench] = &[
    bench(
        "spawn_join",
        WorkerCounts::Both,
        "spawn a no-op and join it, one at a time",
    ),
    bench(
        "spawn_batch",
        WorkerCounts::Both,
        "the same, 1,000 spawned, then 1,000 joined",
    ),
    bench(
        "spawn_join_main",
        WorkerCounts::Many,
        "spawn_join from a plain thread",
    ),
    bench(
        "spawn_batch_main",
        WorkerCounts::Many,
        "spawn_batch from a plain thread",
    ),
    bench("switch", WorkerCounts::One, "yield, two taking turns"),
    bench(
        "pingpong",
        WorkerCounts::Both,
        "one hand-off by park and unpark, placed freely",
    ),
    bench(
        "pingpong_across",
        WorkerCounts::Many,
        "the same between two workers",
    ),
    bench(
        "wake_idle",
        WorkerCounts::Many,
        "latency of waking a sleeper on an idle worker",
    ),
    bench(
        "wake_loaded",
        WorkerCounts::Many,
        "latency of waking a sleeper on a worker that runs others",
    ),
    bench(
        "channel_rendezvous",
        WorkerCounts::Both,
        "one item, handed over without a buffer",
    ),
    bench(
        "channel_buffered",
        WorkerCounts::Both,
        "one item through a buffer of 64",
    ),
    bench(
        "channel_pingpong",
        WorkerCounts::Both,
        "one hand-off, there and back through two channels",
    ),
    bench(
        "mutex_pingpong",
        WorkerCounts::Both,
        "one hand-off of a turn under mutex and condvar",
    ),
    bench(
        "mutex_contended",
        WorkerCounts::Both,
        "lock, count, unlock, four rivals",
    ),
    bench(
        "skynet",
        WorkerCounts::Both,
        "one of 1,111,110 spawned in a tree of ten",
    ),
    bench(
        "fib",
        WorkerCounts::Both,
        "one fork and join of fib(22), no cut-off",
    ),
    bench(
        "fib_cutoff",
        WorkerCounts::Both,
        "all of fib(32), sequential from 20 down",
    ),
    bench(
        "forkjoin",
        WorkerCounts::Both,
        "a tree of 64 chunks of 0.3 ms arithmetic each",
    ),
    bench(
        "timer_arm_cancel",
        WorkerCounts::One,
        "arm a timer and cancel it, one at a time",
    ),
    bench(
        "timers_cancel",
        WorkerCounts::Many,
        "one of 100,000 sleepers, woken before its time",
    ),
    bench(
        "timers_fire",
        WorkerCounts::Many,
        "one of 100,000 sleepers with the same deadline, past it",
    ),
];

/// How many rounds make a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// As many as fill the time of a sample.
    Timed,
    /// One: a round is long, or most of it is not measured.
    One,
}

/// One peer's version of one bench.
#[derive(Clone, Copy)]
pub struct Case {
    /// The bench.
    pub bench: &'static str,
    /// Who does it.
    pub peer: Peer,
    /// How many rounds make a sample.
    pub rounds: Rounds,
    /// Does so many rounds.
    pub run: fn(u64) -> Sample,
}

pub(crate) const fn timed(bench: &'static str, peer: Peer, run: fn(u64) -> Sample) -> Case {
    Case {
        bench,
        peer,
        rounds: Rounds::Timed,
        run,
    }
}

pub(crate) const fn once(bench: &'static str, peer: Peer, run: fn(u64) -> Sample) -> Case {
    Case {
        bench,
        peer,
        rounds: Rounds::One,
        run,
    }
}

/// All cases of this process.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    peers::CASES.iter().flat_map(|cases| cases.iter())
}

/// The case of a bench and a peer, if that peer takes part.
pub fn find_case(bench: &str, peer: Peer) -> Option<&'static Case> {
    cases().find(|case| case.bench == bench && case.peer == peer)
}
