//! One door to the synchronisation types, so that every protocol of ours can be model-checked.
//!
//! Outside tests this is std and crossbeam under uniform names. Under `--cfg loom` the
//! same names are loom's, and what loom cannot see into (crossbeam-deque) is replaced by
//! a simple equivalent with the same meaning. No other room imports those crates (asserted by
//! `tests/layering`). After tokio's `tokio/src/loom/`.

#[cfg(loom)]
mod mocked;
#[cfg(not(loom))]
mod real;

#[cfg(loom)]
pub(crate) use mocked::*;
#[cfg(not(loom))]
pub(crate) use real::*;
