//! The scheduler: workers that start stealable work and resume the fibers pinned to them.
//! The README beside this file holds the turn, the sleep protocol, and placement.

#[cfg(not(loom))]
mod build;
#[cfg(not(loom))]
mod clock;
pub(crate) mod driver;
mod fresh;
#[cfg(not(loom))]
mod home;
mod hooks;
mod hub;
mod idle;
mod inbox;
mod lottery;
#[cfg(not(loom))]
mod placement;
#[cfg(not(loom))]
mod preempt;
mod quiet;
mod ready;
mod registry;
mod rest;
mod spare;
mod work;
#[cfg(not(loom))]
mod worker;

#[cfg(all(test, loom))]
mod loom_test;

#[cfg(not(loom))]
pub(crate) use build::{Crew, build, install_overflow_report};
#[cfg(not(loom))]
pub(crate) use home::{current_hub, resubmit, submit, with_current_driver, with_current_hub, worker_of};
pub use hooks::{FiberView, Hooks, NoHooks};
pub(crate) use hub::{Hub, Outstanding, Phase, Remote};
pub(crate) use lottery::Chance;
#[cfg(not(loom))]
pub use lottery::{chance, chance_to_switch};
#[cfg(not(loom))]
pub use preempt::preempt;
pub(crate) use quiet::Watch;
pub(crate) use spare::Role;
pub(crate) use work::{Runnable, Work};

use crate::loom::deque::Steal;

/// Tries until a steal succeeds or finds nothing.
fn steal<T>(mut attempt: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match attempt() {
            Steal::Success(item) => return Some(item),
            Steal::Empty => return None,
            // Another thief was faster, so somebody makes progress.
            Steal::Retry => crate::loom::hint::spin_loop(),
        }
    }
}
