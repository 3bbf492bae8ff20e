//! The front door: building a runtime, spawning on it, shutting it down.

mod builder;
mod handle;
mod lifecycle;
mod scope;

#[cfg(all(test, not(loom)))]
mod test;

pub use builder::{BuildError, Builder, DropPolicy};
pub use handle::{FiberBuilder, Handle, SpawnError, SpawnErrorKind, spawn};
pub use lifecycle::Runtime;
pub use scope::{Scope, ScopedJoinHandle, scope};
