//! I/O readiness and timers. The only importer of mio (asserted by `tests/layering`).
//! The README beside this file holds the protocols.

#[cfg(not(loom))]
mod alarm;
#[cfg(not(loom))]
mod bell;
#[cfg(not(loom))]
mod driver;
mod error;
#[cfg(not(loom))]
mod fallback;
#[cfg(not(loom))]
mod foreign;
#[cfg(not(loom))]
mod fork;
mod readiness;
#[cfg(not(loom))]
mod record;
#[cfg(not(loom))]
mod refused;
mod seat;
#[cfg(not(loom))]
mod selector;
#[cfg(not(loom))]
mod signal;
#[cfg(not(loom))]
mod source;
#[cfg(not(loom))]
mod table;
#[cfg(not(loom))]
mod thread_wait;
mod timers;

#[cfg(all(test, loom))]
mod loom_test;
#[cfg(all(test, not(loom)))]
mod test;

#[cfg(not(loom))]
pub(crate) use driver::PollDriver;
pub use error::is_cancelled;
#[cfg(not(loom))]
pub use foreign::{
    Closing, FdReady, PollFd, closing, closing_range, wait_fd, wait_fds, wait_readable, wait_writable,
};
pub(crate) use readiness::Direction;
#[cfg(not(loom))]
pub use refused::wait_refused;
#[cfg(not(loom))]
pub use signal::Signals;
#[cfg(not(loom))]
pub(crate) use source::{FromStream, Source, Transfer, Whole};
