//! Green threads for Rust programs and for the Python layer of roving: stackful fibers, pinned to the
//! worker that started them, on workers that steal unstarted work from one another.
//!
//! `docs/ARCHITECTURE.md` draws the map of the rooms below; each room has a README for its protocols.

mod loom;

mod context;
mod fiber;
#[cfg(not(loom))]
pub mod net;
mod reactor;
#[cfg(not(loom))]
mod runtime;
mod scheduler;
mod stack;
pub mod sync;

pub use fiber::{
    Cancelled, Fiber, FiberId, FiberLocal, JoinError, JoinHandle, PlainThread, UnjoinedPanicHandler,
    WaitReason, checkpoint, current_fiber, park, park_timeout, set_unjoined_panic_handler, shield, sleep,
    take_cancellation, yield_now,
};
pub use reactor::is_cancelled;
#[cfg(not(loom))]
pub use reactor::{
    Closing, FdReady, PollFd, Signals, closing, closing_range, wait_fd, wait_fds, wait_readable,
    wait_refused, wait_writable,
};
#[cfg(all(feature = "hyper", not(loom)))]
pub use runtime::hyper;
#[cfg(not(loom))]
pub use runtime::{
    BlockingMetrics, BuildError, Builder, DropPolicy, FiberBuilder, FiberInfo, FiberState, FutureHandle,
    Handle, Metrics, Observer, Prepared, Runtime, Scope, ScopedJoinHandle, Sleep, SpawnError, SpawnErrorKind,
    WorkerMetrics, block_on, blocking, scope, sleep_future, spawn, spawn_future,
};
pub use scheduler::{FiberView, Hooks, NoHooks};
#[cfg(not(loom))]
pub use scheduler::{chance, chance_to_switch, preempt};
pub use stack::StackError;
