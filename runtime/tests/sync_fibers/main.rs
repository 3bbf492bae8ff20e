//! What waits, between fibers and plain threads, on one, two and four workers.

#[path = "../common/mod.rs"]
mod common;
mod condvar;
mod giving_up;
mod mutex;
mod once;
mod rwlock;
mod semaphore;
mod stress;
mod support;
mod together;
