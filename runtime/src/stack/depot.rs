//! The table of a runtime's slabs, behind one lock.

use super::slab::{self, Slab};
use super::slabs::StackStats;
use super::warm::Warm;
use super::{GuardKind, Stack, StackClass, StackError, registry, sys};
use crate::loom::sync::atomic::{AtomicUsize, Ordering};
use crate::loom::sync::{Arc, Mutex};
use std::collections::{BTreeMap, BTreeSet};
use std::ptr::NonNull;

/// A slot that changes hands.
pub(super) type Slot = (StackClass, NonNull<u8>);

/// The part of [`Slabs`](super::Slabs) that every stack keeps alive, so that a stack can go home at any time, even
/// after its runtime. A stack that is forgotten keeps it, and its own slab, for ever.
pub(super) struct Depot {
    embedder_bytes: u32,
    guard: GuardKind,
    max_guard_mappings: usize,
    leaked: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The runtime is gone: an idle slab is unmapped at once.
    closed: bool,
    /// Mappings spent on this depot's guards.
    guard_mappings: usize,
    classes: [Class; StackClass::COUNT],
    /// What came home and keeps its memory for a while.
    warm: Warm,
    /// A counter for each pool of how many stacks it keeps.
    gauges: Vec<Arc<AtomicUsize>>,
}

/// The slabs of one class.
#[derive(Default)]
struct Class {
    slabs: BTreeMap<usize, Slab>,
    /// Those with a free slot. Claimed from the lowest on, so that the highest become idle.
    with_free: BTreeSet<usize>,
    /// Those with a slot not guarded yet.
    with_bare: BTreeSet<usize>,
    /// An idle slab that is kept, so that a load that swings around a slab's edge does not map and
    /// unmap it each time. A second idle one is unmapped.
    spare: Option<usize>,
}

impl Class {
    fn insert(&mut self, slab: Slab) -> usize {
        let key = slab.key();
        self.slabs.insert(key, slab);
        self.index(key);
        key
    }

    /// Brings the tables up to date with a slab whose slots have changed hands.
    fn index(&mut self, key: usize) {
        let slab = &self.slabs[&key];
        for (table, listed) in [
            (&mut self.with_free, slab.has_free()),
            (&mut self.with_bare, slab.has_bare()),
        ] {
            if listed {
                table.insert(key);
            } else {
                table.remove(&key);
            }
        }
        if self.spare == Some(key) && !slab.is_idle() {
            self.spare = None;
        }
    }

    /// The slab that a slot is part of.
    fn owner(&mut self, address: NonNull<u8>) -> (usize, &mut Slab) {
        let below = self.slabs.range_mut(..=address.addr().get()).next_back();
        let (&key, slab) = below.expect("roving: a stack came back to where it never was");
        (key, slab)
    }

    /// Whether an address is in one of the slabs.
    fn holds(&self, address: NonNull<u8>) -> bool {
        let below = self.slabs.range(..=address.addr().get()).next_back();
        below.is_some_and(|(_, slab)| slab.contains(address))
    }

    /// Takes an idle slab out of the tables, unless it is to be kept.
    fn retire(&mut self, key: usize, closed: bool) -> Option<Slab> {
        if !self.slabs.get(&key)?.is_idle() {
            return None;
        }
        if !closed && *self.spare.get_or_insert(key) == key {
            return None;
        }
        self.with_free.remove(&key);
        self.with_bare.remove(&key);
        self.spare = self.spare.filter(|&spare| spare != key);
        self.slabs.remove(&key)
    }
}

/// Slots that [`Depot::trim`] gives up in one call: for about 0.1 ms.
const TRIM: usize = 128;

/// Whether claimed slots still need their guards.
enum Claim {
    Guarded,
    Bare,
}

impl Depot {
    pub(super) fn new(embedder_bytes: u32, guard: GuardKind, max_guard_mappings: usize) -> Self {
        let inner = Mutex::new(Inner::default());
        Self {
            embedder_bytes,
            guard,
            max_guard_mappings,
            leaked: AtomicUsize::new(0),
            inner,
        }
    }

    pub(super) fn note_leaked(&self) {
        self.leaked.fetch_add(1, Ordering::Relaxed);
    }

    /// Appends from one to `count` stacks to `stacks`, or fails and appends none.
    pub(super) fn take(
        this: &Arc<Self>,
        class: StackClass,
        count: usize,
        stacks: &mut Vec<Stack>,
    ) -> Result<(), StackError> {
        let mut slots = Vec::with_capacity(count);
        let claim = match this.claim(class, count, &mut slots) {
            // What is kept for later must not stand in the way of what is needed now.
            Err(_) if this.let_go() => this.claim(class, count, &mut slots)?,
            claim => claim?,
        };
        if let Claim::Bare = claim {
            // Outside the lock: a guard costs a system call, and often a new page-table page.
            this.install_guards(class, &mut slots)?;
        }
        // Stacks are popped off the end: the warmest, or the lowest, comes first.
        slots.reverse();
        stacks.extend(
            slots
                .into_iter()
                .map(|slot| Stack::new(slot, class, this.embedder_bytes, this)),
        );
        Ok(())
    }

    fn claim(
        &self,
        class: StackClass,
        count: usize,
        slots: &mut Vec<NonNull<u8>>,
    ) -> Result<Claim, StackError> {
        let mut inner = self.inner.lock();
        let Inner {
            classes,
            guard_mappings,
            warm,
            ..
        } = &mut *inner;
        warm.take(class, count, slots);
        let table = &mut classes[class.index()];
        while let Some(&key) = table.with_free.first()
            && slots.len() < count
        {
            let slab = table.slabs.get_mut(&key).expect("the tables agree");
            slab.claim_free(count - slots.len(), slots);
            table.index(key);
        }
        if !slots.is_empty() {
            return Ok(Claim::Guarded);
        }
        let count = self.afford_guards(count, guard_mappings)?;
        let key = match table.with_bare.first() {
            Some(&key) => Ok(key),
            None => self
                .map_slab(class, table.slabs.len())
                .map(|slab| table.insert(slab)),
        };
        let taken = key.as_ref().map_or(0, |key| {
            let slab = table.slabs.get_mut(key).expect("the tables agree");
            let taken = slab.claim_bare(count, slots);
            table.index(*key);
            taken
        });
        self.refund_guards(count - taken, guard_mappings);
        key.map(|_| Claim::Bare)
    }

    fn map_slab(&self, class: StackClass, existing: usize) -> Result<Slab, StackError> {
        let mut len = slab::slab_size(class, existing);
        loop {
            match Slab::new(class, len) {
                Ok(slab) => return Ok(slab),
                // Where address space is scarce (`ulimit -v`), less may still be had.
                Err(_) if len > slab::min_slab_size(class) => len /= 2,
                Err(errno) => return Err(StackError::AddressSpace { bytes: len, errno }),
            }
        }
    }

    /// Makes `slots` ready for use. Where that fails for some, they go back and the others stay; where it
    /// fails for all, the first reason is returned.
    fn install_guards(&self, class: StackClass, slots: &mut Vec<NonNull<u8>>) -> Result<(), StackError> {
        let len = class.guard_len(sys::page_size());
        let mut failed = None;
        let mut done = 0;
        while done < slots.len() && failed.is_none() {
            // SAFETY: the slot was claimed by us and its lowest `len` bytes are for its guard.
            match unsafe { sys::guard(self.guard, slots[done], len) } {
                Ok(()) => done += 1,
                Err(errno) => failed = Some(errno),
            }
        }
        let Some(errno) = failed else { return Ok(()) };
        let mut inner = self.inner.lock();
        let closed = inner.closed;
        let Inner {
            classes,
            guard_mappings,
            ..
        } = &mut *inner;
        self.refund_guards(slots.len() - done, guard_mappings);
        let used = *guard_mappings;
        let table = &mut classes[class.index()];
        let mut idle = Vec::new();
        for slot in slots.drain(done..) {
            let (key, slab) = table.owner(slot);
            slab.return_bare(slot);
            table.index(key);
            idle.extend(table.retire(key, closed));
        }
        drop(inner);
        self.unmap(class, idle);
        if done > 0 {
            Ok(())
        } else if self.guard == GuardKind::Mprotect && errno == libc::ENOMEM {
            // What `mprotect` says when it may not split one more mapping.
            Err(StackError::MapLimit {
                used,
                limit: sys::max_map_count(),
            })
        } else {
            Err(StackError::Guard { errno })
        }
    }

    /// Takes slots back that stacks of this depot gave up, as they are: they are kept for later, as many as there is
    /// room for, and [trimmed](Self::trim).
    pub(super) fn keep(&self, slots: Vec<Slot>) {
        let mut rest: Vec<Slot> = if self.guard == GuardKind::Mprotect {
            // Their guards' mappings are the whole process's to use.
            slots
        } else {
            let mut inner = self.inner.lock();
            let inner = &mut *inner;
            let keep = |slot| inner.warm.keep(slot).err();
            slots.into_iter().filter_map(keep).collect()
        };
        if !rest.is_empty() {
            self.put(&mut rest);
        }
    }

    /// Ends an epoch of the stacks that are kept: some of those not needed in it are to be trimmed. False if none are
    /// kept.
    pub(super) fn end_epoch(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.warm.end_epoch();
        inner.warm.len() > 0
    }

    /// Gives up some of the stacks that are to be trimmed in this epoch; false when none are left to be.
    pub(super) fn trim(&self) -> bool {
        let mut slots = self.inner.lock().warm.give_up(TRIM);
        self.put(&mut slots);
        slots.len() == TRIM
    }

    /// Whether stacks are kept.
    pub(super) fn keeps_any(&self) -> bool {
        self.inner.lock().warm.len() > 0
    }

    /// Gives up all stacks that are kept; false if there were none.
    #[cold]
    fn let_go(&self) -> bool {
        let mut slots = self.inner.lock().warm.clear();
        self.put(&mut slots);
        !slots.is_empty()
    }

    /// Takes slots back that stacks of this depot gave up, their memory to the kernel first.
    pub(super) fn put(&self, slots: &mut [Slot]) {
        slots.sort_unstable();
        for run in slots.chunk_by(|&(class, low), &(next_class, high)| {
            class == next_class && low.addr().get() + class.size() == high.addr().get()
        }) {
            let (class, first) = run[0];
            // SAFETY: the slots lie side by side in mapped slabs, and their stacks, the only owners, have
            // given them up. The guards between them survive.
            unsafe { sys::discard(first, run.len() * class.size()) };
        }
        let mut idle = Vec::new();
        let mut inner = self.inner.lock();
        let closed = inner.closed;
        for &mut (class, slot) in slots {
            let table = &mut inner.classes[class.index()];
            let (key, slab) = table.owner(slot);
            slab.return_free(slot);
            table.index(key);
            if let Some(slab) = table.retire(key, closed) {
                idle.push((class, slab));
            }
        }
        drop(inner);
        for (class, slab) in idle {
            self.unmap(class, [slab]);
        }
    }

    /// Unmaps slabs that were taken out of the tables.
    fn unmap(&self, class: StackClass, slabs: impl IntoIterator<Item = Slab>) {
        for slab in slabs {
            let guarded = slab.guarded();
            let outcome = slab.unmap();
            let mut inner = self.inner.lock();
            match outcome {
                Ok(()) => self.refund_guards(guarded, &mut inner.guard_mappings),
                // Too many mappings to split one more. Nothing is lost: the slab's stacks are as good as
                // before.
                Err(slab) => drop(inner.classes[class.index()].insert(slab)),
            }
        }
    }

    pub(super) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        // With their memory, most of which goes with the slabs.
        let slots = inner.warm.clear();
        for &(class, slot) in &slots {
            let table = &mut inner.classes[class.index()];
            let (key, slab) = table.owner(slot);
            slab.return_free(slot);
            table.index(key);
        }
        let mut idle = Vec::new();
        for class in StackClass::all() {
            let table = &mut inner.classes[class.index()];
            let keys: Vec<usize> = table.slabs.keys().copied().collect();
            idle.extend(
                keys.into_iter()
                    .filter_map(|key| Some((class, table.retire(key, true)?))),
            );
        }
        for (class, slot) in slots {
            if inner.classes[class.index()].holds(slot) {
                // SAFETY: the slot is free, nobody takes any from a depot that is closed, and as long as we hold the
                // lock nobody unmaps its slab.
                unsafe { sys::discard(slot, class.size()) };
            }
        }
        drop(inner);
        for (class, slab) in idle {
            self.unmap(class, [slab]);
        }
    }

    /// Counts the mappings of up to `count` more guards, as many as there are mappings for.
    fn afford_guards(&self, count: usize, own: &mut usize) -> Result<usize, StackError> {
        if self.guard == GuardKind::Lightweight {
            return Ok(count);
        }
        let limit = sys::max_map_count();
        // The rest of the process wants mappings too: thread stacks, libraries, the heap.
        let allowed = limit - (limit / 4).min(8192);
        let left = self.max_guard_mappings.saturating_sub(*own) / 2;
        let count = count.min(left);
        let refused = |used: usize| StackError::MapLimit {
            used,
            limit: limit.min(self.max_guard_mappings),
        };
        if count == 0 {
            return Err(refused(*own + 2));
        }
        // Near the limit a single one may still fit.
        let affordable = [count, 1]
            .into_iter()
            .find(|n| registry::charge_mappings(2 * n, allowed));
        let count = affordable.ok_or_else(|| refused(registry::mappings() + 2))?;
        *own += 2 * count;
        Ok(count)
    }

    fn refund_guards(&self, count: usize, own: &mut usize) {
        if self.guard == GuardKind::Mprotect {
            *own -= 2 * count;
            registry::refund_mappings(2 * count);
        }
    }

    /// Registers a pool's counter of the stacks it keeps.
    pub(super) fn add_gauge(&self, gauge: &Arc<AtomicUsize>) {
        self.inner.lock().gauges.push(gauge.clone());
    }

    /// Takes a pool's counter off the list.
    pub(super) fn remove_gauge(&self, gauge: &Arc<AtomicUsize>) {
        self.inner
            .lock()
            .gauges
            .retain(|other| !Arc::ptr_eq(other, gauge));
    }

    pub(super) fn stats(&self) -> StackStats {
        let inner = self.inner.lock();
        let slabs = || inner.classes.iter().flat_map(|class| class.slabs.values());
        let cached = inner
            .gauges
            .iter()
            .map(|gauge| gauge.load(Ordering::Relaxed))
            .sum::<usize>()
            + inner.warm.len();
        let out: usize = slabs().map(Slab::out).sum();
        StackStats {
            live: out.saturating_sub(cached),
            cached,
            free: slabs().map(|slab| slab.guarded() - slab.out()).sum(),
            leaked: self.leaked.load(Ordering::Relaxed),
            slabs: slabs().count(),
            mapped_bytes: slabs().map(Slab::mapped).sum(),
            guard: self.guard,
        }
    }
}

impl std::fmt::Debug for Depot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stats().fmt(f)
    }
}
