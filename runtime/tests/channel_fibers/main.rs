//! Channels between fibers and plain threads, on one, two and four workers.

mod golang;
mod golang_select;
#[path = "../sync_fibers/support.rs"]
mod support;
mod waiting;
