//! A file a peer.

mod may;
mod roving;
mod roving_net;
mod roving_sync;
mod threads;
mod tokio;

pub(crate) use may::{configure as configure_may, echo_server as may_echo_server};
pub(crate) use roving_net::echo_server as roving_echo_server;
pub(crate) use threads::echo_server as threads_echo_server;
pub(crate) use tokio::echo_server as tokio_echo_server;

use crate::table::Case;

/// The cases of each peer.
pub(crate) const CASES: &[&[Case]] = &[
    roving::CASES,
    roving_sync::CASES,
    tokio::CASES,
    may::CASES,
    threads::CASES,
];
