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
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::os::fd::RawFd;

const SHARDS: usize = 64;

struct Table {
    shards: [CachePadded<Mutex<Shard>>; SHARDS],
    /// Two records of one number, old and new, never have the same. Four thousand million later one might,
    /// and then only wake a waiter for nothing.
    generation: AtomicU32,
}

/// Records by descriptor. A map, not an array: anybody may ask about a descriptor of any number.
type Shard = HashMap<RawFd, Slot, BuildHasherDefault<Spread>>;

enum Slot {
    Open(Entry),
    /// So many are about to close it: what the number stands for is not known before they have.
    Closing(u32),
}

/// Spreads small numbers over all bits (Knuth, TAOCP 3, 6.4: multiplication by the golden ratio).
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_i32(i32::from(byte));
        }
    }

    fn write_i32(&mut self, number: i32) {
        self.0 = (self.0 ^ u64::from(number as u32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

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

/// The record an event is for, if it is still there.
pub(super) fn get(key: Key) -> Option<Arc<Record>> {
    let shard = table().shard(key.fd).lock();
    let Slot::Open(entry) = shard.get(&key.fd)? else {
        return None;
    };
    (entry.record.key == key).then(|| entry.record.clone())
}

/// The record of a descriptor that has just become ours.
pub(super) fn insert_owned(fd: RawFd, assumed: bool) -> Arc<Record> {
    let table = table();
    let record = table.new_record(fd, Kind::Owned, assumed);
    let entry = Entry {
        record: record.clone(),
        users: 0,
    };
    let mut wakes = Vec::new();
    {
        let mut shard = table.shard(fd).lock();
        // The number was closed without a word to us, and used again: those who still wait for what it was
        // are told that it is gone.
        if let Some(Slot::Open(older)) = shard.insert(fd, Slot::Open(entry)) {
            let _ = older.record.close(&mut wakes);
        }
    }
    finish(&mut wakes);
    record
}

/// The record of a descriptor of anybody's, to wait for. To be given back with [`check_in`]. `None`: it is
/// being closed just now.
pub(super) fn check_out(fd: RawFd) -> Option<Arc<Record>> {
    let table = table();
    let mut shard = table.shard(fd).lock();
    let slot = shard.entry(fd).or_insert_with(|| {
        let record = table.new_record(fd, Kind::Foreign, false);
        Slot::Open(Entry { record, users: 0 })
    });
    let Slot::Open(entry) = slot else { return None };
    entry.users += 1;
    Some(entry.record.clone())
}

/// Ends a use; the last one ends a foreign record, so that nothing is registered while nobody waits.
pub(super) fn check_in(record: &Arc<Record>) {
    let mut wakes = Vec::new();
    {
        let mut shard = table().shard(record.fd()).lock();
        // Otherwise it was closed, and the number may have another record.
        if let Some(Slot::Open(entry)) = shard.get_mut(&record.fd())
            && Arc::ptr_eq(&entry.record, record)
        {
            entry.users -= 1;
            if entry.users == 0 && record.kind == Kind::Foreign {
                // Under the shard's lock: a newcomer's registration of this number must come after.
                let _ = record.close(&mut wakes);
                shard.remove(&record.fd());
            }
        }
    }
    finish(&mut wakes);
}

/// Ends a use, and leaves the record where it is, with its registration, for the next who waits: until the descriptor is
/// closed, or the number turns out to stand for another file.
pub(super) fn let_linger(record: &Arc<Record>) {
    let mut shard = table().shard(record.fd()).lock();
    if let Some(Slot::Open(entry)) = shard.get_mut(&record.fd())
        && Arc::ptr_eq(&entry.record, record)
    {
        entry.users -= 1;
    }
}

/// The descriptors of a range that have records.
pub(super) fn within(range: &Range<RawFd>) -> Vec<RawFd> {
    let mut found = Vec::new();
    for shard in &table().shards {
        found.extend(shard.lock().keys().copied().filter(|fd| range.contains(fd)));
    }
    found
}

/// Ends a record: all who wait for it, now or later, learn that it is closed. Says whether this call ended it.
pub(super) fn close(record: &Arc<Record>) -> bool {
    let mut wakes = Vec::new();
    let closed = {
        let mut shard = table().shard(record.fd()).lock();
        if let Some(Slot::Open(entry)) = shard.get(&record.fd())
            && Arc::ptr_eq(&entry.record, record)
        {
            shard.remove(&record.fd());
        }
        // Under the shard's lock: see `check_in`.
        record.close(&mut wakes)
    };
    finish(&mut wakes);
    closed == ToClosed::Closed
}

/// As [`close`], for whichever record the descriptor has; there will be none before [`closed`].
pub(super) fn closing(fd: RawFd) {
    let mut wakes = Vec::new();
    {
        let mut shard = table().shard(fd).lock();
        match shard.entry(fd).or_insert(Slot::Closing(0)) {
            Slot::Closing(count) => *count += 1,
            slot => {
                if let Slot::Open(entry) = std::mem::replace(slot, Slot::Closing(1)) {
                    // Under the shard's lock: see `check_in`.
                    let _ = entry.record.close(&mut wakes);
                }
            }
        }
    }
    finish(&mut wakes);
}

/// The descriptor has been closed.
pub(super) fn closed(fd: RawFd) {
    let mut shard = table().shard(fd).lock();
    // Otherwise the number has become ours meanwhile.
    if let Some(Slot::Closing(count)) = shard.get_mut(&fd) {
        *count -= 1;
        if *count == 0 {
            shard.remove(&fd);
        }
    }
}

/// Calls `f` with every record, under its shard's lock.
pub(super) fn for_each(mut f: impl FnMut(&Record)) {
    for shard in &table().shards {
        for slot in shard.lock().values() {
            if let Slot::Open(entry) = slot {
                f(&entry.record);
            }
        }
    }
}
