//! The one table of the process from descriptors to their records, in shards.
//!
//! Lock order: a shard, then a record. No system call that blocks, and no code of the user's, runs under
//! either.

use super::driver::finish;
use super::readiness::ToClosed;
use super::record::{Kind, Record};
use super::selector::Key;
use crate::loom::CachePadded;
use crate::loom::sync::atomic::{AtomicU32, Ordering};
use crate::loom::sync::{Arc, Mutex, OnceLock};
use std::os::fd::RawFd;

const SHARDS: usize = 64;

struct Table {
    shards: [CachePadded<Mutex<Shard>>; SHARDS],
    /// Two records of one number, old and new, never have the same. Four thousand million later one might,
    /// and then only wake a waiter for nothing.
    generation: AtomicU32,
}

/// Records by `fd / SHARDS`: descriptors are small numbers.
#[derive(Default)]
struct Shard(Vec<Option<Entry>>);

struct Entry {
    record: Arc<Record>,
    /// Of a foreign record: how many wait, or are about to.
    users: usize,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| Table {
        shards: std::array::from_fn(|_| CachePadded::new(Mutex::default())),
        generation: AtomicU32::new(0),
    })
}

impl Table {
    fn shard(&self, fd: RawFd) -> &Mutex<Shard> {
        &self.shards[fd as usize % SHARDS]
    }

    fn new_record(&self, fd: RawFd, kind: Kind, assumed: bool) -> Arc<Record> {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        Arc::new(Record::new(Key { fd, generation }, kind, assumed))
    }
}

impl Shard {
    fn get(&self, fd: RawFd) -> Option<&Entry> {
        self.0.get(fd as usize / SHARDS)?.as_ref()
    }

    fn slot(&mut self, fd: RawFd) -> &mut Option<Entry> {
        let index = fd as usize / SHARDS;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        &mut self.0[index]
    }

    /// Takes out the record of `fd`, if it is `record` (or whichever it is, for `None`).
    fn take(&mut self, fd: RawFd, record: Option<&Arc<Record>>) -> Option<Arc<Record>> {
        let slot = self.0.get_mut(fd as usize / SHARDS)?;
        slot.take_if(|entry| record.is_none_or(|record| Arc::ptr_eq(record, &entry.record)))
            .map(|entry| entry.record)
    }
}

/// The record an event is for, if it is still there.
pub(super) fn get(key: Key) -> Option<Arc<Record>> {
    let shard = table().shard(key.fd).lock();
    let entry = shard.get(key.fd)?;
    (entry.record.key == key).then(|| entry.record.clone())
}

/// The record of a descriptor that has just become ours.
pub(super) fn insert_owned(fd: RawFd, assumed: bool) -> Arc<Record> {
    let table = table();
    let record = table.new_record(fd, Kind::Owned, assumed);
    let mut wakes = Vec::new();
    {
        let mut shard = table.shard(fd).lock();
        let older = shard.slot(fd).replace(Entry {
            record: record.clone(),
            users: 0,
        });
        // The number was closed without a word to us, and used again: those who still wait for what it was
        // are told that it is gone.
        if let Some(older) = older {
            let _ = older.record.close(&mut wakes);
        }
    }
    finish(&mut wakes);
    record
}

/// The record of a descriptor of anybody's, to wait for. To be given back with [`check_in`].
pub(super) fn check_out(fd: RawFd) -> Arc<Record> {
    let table = table();
    let mut shard = table.shard(fd).lock();
    let entry = shard.slot(fd).get_or_insert_with(|| Entry {
        record: table.new_record(fd, Kind::Foreign, false),
        users: 0,
    });
    entry.users += 1;
    entry.record.clone()
}

/// Ends a use; the last one ends a foreign record, so that nothing is registered while nobody waits.
pub(super) fn check_in(record: &Arc<Record>) {
    let mut wakes = Vec::new();
    {
        let mut shard = table().shard(record.fd()).lock();
        let slot = shard.slot(record.fd());
        // Otherwise it was closed, and the number may have another record.
        if let Some(entry) = slot
            && Arc::ptr_eq(&entry.record, record)
        {
            entry.users -= 1;
            if entry.users == 0 && record.kind == Kind::Foreign {
                // Under the shard's lock: a newcomer's registration of this number must come after.
                let _ = record.close(&mut wakes);
                *slot = None;
            }
        }
    }
    finish(&mut wakes);
}

/// Ends a record: all who wait for it, now or later, learn that it is closed. For `None`, whichever record
/// the descriptor has. Says whether this call ended it.
pub(super) fn close(fd: RawFd, record: Option<&Arc<Record>>) -> bool {
    if fd < 0 {
        return false;
    }
    let mut wakes = Vec::new();
    let closed = {
        let mut shard = table().shard(fd).lock();
        let taken = shard.take(fd, record);
        // Under the shard's lock: see `check_in`.
        taken.is_some_and(|record| record.close(&mut wakes) == ToClosed::Closed)
    };
    finish(&mut wakes);
    closed
}

/// Calls `f` with every record, under its shard's lock.
pub(super) fn for_each(mut f: impl FnMut(&Record)) {
    for shard in &table().shards {
        for entry in shard.lock().0.iter().flatten() {
            f(&entry.record);
        }
    }
}
