//! A seeded storm: thousands of fibers that spawn, park, wake one another, sleep, cancel, panic, join, wait for
//! futures, call the blocking pool, talk over TCP and Unix sockets, send, receive and select over channels, and
//! lock, on more workers than there are cores, with plain threads among them. At the end every book must balance.
//!
//! Run with `make stress` (`ROVING_STRESS_SECONDS`, `ROVING_SEED`); a second's worth of it is a smoke test of the
//! suite. A seed repeats the choices, not the timing.

mod channels;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod connections;
mod fibers;
mod guests;
mod locks;
mod servers;
mod storm;
mod talks;
mod watch;

use common::Rng;

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn fresh_seed() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_nanos() as u64
}

#[test]
fn a_short_storm() {
    let seed = setting("ROVING_SEED", 1);
    let fds = watch::fds_before();
    for workers in [1, 2, 4] {
        storm::run(0.5, workers, seed);
    }
    watch::all_closed(fds);
}

#[test]
#[ignore = "runs for minutes: make stress"]
fn a_long_storm() {
    let seconds: f64 = setting("ROVING_STRESS_SECONDS", 120.0);
    let mut seeds = Rng(setting("ROVING_SEED", fresh_seed()));
    let fds = watch::fds_before();
    // Several storms of each size: starting and ending are part of it.
    let rounds = (seconds / 40.0).ceil().max(1.0);
    for round in 0..rounds as usize {
        let seed = if round == 0 { seeds.0 } else { seeds.next() };
        for workers in [1, 2, 3, 8] {
            storm::run(seconds / rounds / 4.0, workers, seed);
        }
    }
    watch::all_closed(fds);
}
