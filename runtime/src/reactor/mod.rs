//! I/O readiness and timers. The only importer of mio (asserted by `tests/layering`).

mod alarm;
mod driver;
#[path = "timers_interim.rs"]
mod timers;

pub(crate) use driver::PollDriver;
