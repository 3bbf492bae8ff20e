//! A durable store of jobs, behind one interface: [`SqliteStore`] keeps them in a file that several processes share and
//! that a kill or a power cut does not harm; [`MemoryStore`] keeps them while the process lives.
//!
//! | module | what it has |
//! |---|---|
//! | `job` | a job, its id, its states, an attempt |
//! | `api` | [`Store`], the interface, and what its calls take and give |
//! | `error` | [`Error`] |
//! | `clock` | where times come from |
//! | `change` | who is told when something changes |
//! | `rate` | the arithmetic of rate limits |
//! | `memory` | [`MemoryStore`] |
//! | `sqlite` | [`SqliteStore`]; `README.md` here has the schema and why nothing is lost |
//!
//! The crate knows no Python and no fibers: every call takes a [`Done`], which the store calls once, from a thread of its
//! own. [`wait`] blocks a plain thread; a fiber parks on what its `Done` sets.

mod api;
mod change;
mod clock;
mod error;
mod job;
mod memory;
mod rate;
mod sqlite;

pub use api::{
    Ack, Cancelled, Claim, Done, Enqueued, Filter, LogEntry, Once, Outcome, Page, Purged, QueueSettings,
    QueueStats, Rate, Stats, Store, TakenOver, Tick, TickOutcome, WorkerInfo, wait,
};
pub use change::{Change, Listener, Watch};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::Error;
pub use job::{Attempt, Claimed, Job, JobId, NewJob, Status, Unique, WorkerId};
pub use memory::{MemoryOptions, MemoryStore};
pub use sqlite::{SqliteOptions, SqliteStore};
