#![doc = include_str!("README.md")]

mod answer;
mod checker;
mod chunks;
mod fault;
mod fields;
mod head;
mod limits;
mod stream;
mod table;
mod target;
mod watch;

pub(crate) use answer::{date, response};
pub use checker::{Checker, Framing, Phase, Step, Version};
pub use fault::{Fault, Refused};
pub use head::Head;
pub use limits::Limits;
pub use stream::{Config, Linger, Strict, drive};
pub(crate) use target::check_parts;
pub use watch::Watch;
