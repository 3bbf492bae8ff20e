//! Waiting for a poll to be ready, with a deadline: parks the fiber that calls, or blocks the plain thread.

use roving_runtime::{Cancelled, Handle, block_on};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Instant;

/// Waits until `poll` is ready; `None` when `until` came first.
///
/// # Errors
/// The calling fiber was cancelled.
pub(crate) fn wait<T>(
    handle: &Handle,
    until: Option<Instant>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Result<Option<T>, Cancelled> {
    let Some(until) = until else {
        return block_on(poll_fn(poll)).map(Some);
    };
    let mut sleep = pin!(handle.sleep_until(until));
    block_on(poll_fn(move |context| match poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => sleep.as_mut().poll(context).map(|()| None),
    }))
}
