//! Channels: values handed from fiber to fiber, or thread.
//!
//! - [`bounded`]`(n)` holds up to `n` values; a sender waits while it is full.
//! - [`unbounded`]`()` holds any number; senders never wait.
//! - [`rendezvous`]`()` holds none: a sender waits for its receiver.
//!
//! Both ends may be cloned and shared. A channel closes when all its senders are gone, when all its receivers are,
//! or by `close`. Then sending fails, values that wait to be sent come back to their senders, and receivers take
//! what the buffer holds before they fail too. Who waits is served first come first served. The README beside
//! this file proves that no value is lost or duplicated.
//!
//! ```
//! use roving_runtime::Runtime;
//! use roving_runtime::sync::channel::bounded;
//!
//! let runtime = Runtime::builder().workers(1).build()?;
//! let (sender, receiver) = bounded(4);
//! runtime.spawn(move || {
//!     for n in 1..=10 {
//!         sender.send(n).expect("the receiver stays");
//!     }
//! });
//! assert_eq!(receiver.iter().sum::<u32>(), 55);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod buffer;
mod case;
mod chance;
mod core;
mod err;
mod receiver;
mod select;
mod sender;
mod slot;

#[cfg(all(test, loom))]
mod loom_select;
#[cfg(all(test, loom))]
mod loom_test;
#[cfg(all(test, not(loom)))]
mod test;

pub use err::{
    RecvError, RecvTimeoutError, SelectError, SelectTimeoutError, SendError, SendTimeoutError, TryRecvError,
    TrySelectError, TrySendError,
};
pub use receiver::{IntoIter, Iter, Receiver, TryIter};
pub use select::{Select, Selected};
pub use sender::Sender;

use crate::loom::sync::Arc;

/// A channel that holds up to `capacity` values; with zero, as [`rendezvous`], with `usize::MAX`, as [`unbounded`].
/// Memory is only taken for values that are in it, so any capacity will do.
///
/// ```
/// use roving_runtime::sync::channel::{TrySendError, bounded};
///
/// let (sender, receiver) = bounded(1);
/// sender.send("a")?;
/// assert_eq!(sender.try_send("b"), Err(TrySendError::Full("b")));
/// assert_eq!(receiver.recv()?, "a");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(core::Channel::new(capacity));
    (Sender::new(channel.clone()), Receiver::new(channel))
}

/// A channel that holds as many values as there is memory for.
///
/// ```
/// use roving_runtime::sync::channel::{RecvError, unbounded};
///
/// let (sender, receiver) = unbounded();
/// sender.send(1)?;
/// sender.send(2)?;
/// drop(sender);
/// assert_eq!(receiver.iter().sum::<u32>(), 3);
/// assert_eq!(receiver.recv(), Err(RecvError::Closed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

/// A channel that holds no values: a value goes from a sender to a receiver when both are there.
///
/// ```
/// use roving_runtime::sync::channel::{TrySendError, rendezvous};
///
/// let (sender, receiver) = rendezvous();
/// assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)), "nobody receives");
/// let runtime = roving_runtime::Runtime::builder().workers(1).build()?;
/// let fiber = runtime.spawn(move || receiver.recv());
/// sender.send(2)?;
/// assert_eq!(fiber.join()?, Ok(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn rendezvous<T>() -> (Sender<T>, Receiver<T>) {
    bounded(0)
}
