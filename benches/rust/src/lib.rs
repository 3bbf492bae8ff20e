//! The same work on roving and on its peers, for `src/main.rs` (samples beside Go, asked for by
//! `benches/run`) and for `benches/micro.rs` (criterion). What each bench does is said in
//! `benches/README.md`; here a bench is a function from a number of rounds to a [`Sample`].

pub mod echo;
mod peers;
pub mod sampler;
mod shared;
mod table;

pub use shared::{Sample, Settings, configure, settings};
pub use table::{BENCHES, Bench, Case, Peer, Rounds, WorkerCounts, cases, find_case};
