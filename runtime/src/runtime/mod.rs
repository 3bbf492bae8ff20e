//! The front door: building a runtime, spawning on it, shutting it down.

mod blocking;
mod builder;
mod future;
mod handle;
#[cfg(feature = "hyper")]
pub mod hyper;
mod lifecycle;
mod metrics;
mod monitor;
mod quantum;
mod scope;
mod testing;
mod timer;

pub use blocking::{BlockingMetrics, blocking};
pub use builder::{BuildError, Builder, DropPolicy};
pub use future::{FutureHandle, block_on, spawn_future};
pub use handle::{FiberBuilder, Handle, Prepared, SpawnError, SpawnErrorKind, spawn};
pub use lifecycle::Runtime;
pub use metrics::{FiberInfo, FiberState, Metrics, WorkerMetrics};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use testing::Observer;
pub use timer::{Sleep, sleep_future};
