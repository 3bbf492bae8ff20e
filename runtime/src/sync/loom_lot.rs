//! Models of the lock that two kinds of waiters share, and of the lot below it. Waiters of ours are plain threads here, as
//! in `loom_test.rs`; theirs stand in a lot of their own and go by the rules of CPython's `PyMutex`.

use super::foreign_lock::{ForeignLock, ForeignWaiters};
use super::loom_test::{SOON, bounded};
use super::lot::{Lot, LotPlace, LotWait};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use loom::thread;
use std::sync::Arc;
use std::time::Instant;

const LOCKED: u8 = 1;
const QUEUED: u8 = 2;

struct Shared {
    byte: AtomicU8,
    ours: Lot,
    theirs: Lot,
    /// Whether theirs are handed the lock, or compete for it.
    fair: bool,
    count: UnsafeCell<u32>,
}

// SAFETY: the count is the lock's holder's, which loom checks.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl ForeignWaiters for &Shared {
    fn wake_one(&self, byte: &AtomicU8, keep: bool) -> bool {
        let address = std::ptr::from_ref(byte).addr();
        let mut found = false;
        self.theirs.wake_one(
            address,
            |_, _| Some(u32::from(self.fair)),
            |woken| {
                found = woken.code.is_some();
                let locked = if self.fair { LOCKED } else { 0 };
                let queued = if woken.more || keep { QUEUED } else { 0 };
                match woken.code {
                    Some(_) => byte.store(locked | queued, Ordering::Release),
                    None if keep => {}
                    None => byte.store(0, Ordering::Release),
                }
            },
        );
        found
    }
}

impl Shared {
    fn new(fair: bool) -> Arc<Self> {
        Arc::new(Self {
            byte: AtomicU8::new(0),
            ours: Lot::new(),
            theirs: Lot::new(),
            fair,
            count: UnsafeCell::new(0),
        })
    }

    fn lock(&self) -> ForeignLock<'_, &Self> {
        ForeignLock::new(&self.byte, &self.ours, self)
    }

    fn hold(&self) {
        // SAFETY: loom checks it.
        self.count.with_mut(|count| unsafe { *count += 1 });
        assert!(self.lock().unlock());
    }

    fn count(&self) -> u32 {
        // SAFETY: loom checks it.
        self.count.with(|count| unsafe { *count })
    }

    fn ours(&self) {
        assert!(self.lock().lock_until(None).unwrap());
        self.hold();
    }

    /// As `_PyMutex_LockTimed` locks; no deadline means one that never ends.
    fn theirs(&self, deadline: Option<Instant>) -> bool {
        let address = std::ptr::from_ref(&self.byte).addr();
        let mut byte = self.byte.load(Ordering::Relaxed);
        loop {
            if byte & LOCKED == 0 {
                match self
                    .byte
                    .compare_exchange(byte, byte | LOCKED, Ordering::Acquire, Ordering::Relaxed)
                {
                    Ok(_) => break,
                    Err(now) => byte = now,
                }
                continue;
            }
            if byte & QUEUED == 0
                && let Err(now) =
                    self.byte
                        .compare_exchange(byte, LOCKED | QUEUED, Ordering::Relaxed, Ordering::Relaxed)
            {
                byte = now;
                continue;
            }
            let is_same = || self.byte.load(Ordering::Relaxed) == LOCKED | QUEUED;
            match self
                .theirs
                .wait(address, (LotPlace::Back, 0), deadline, is_same)
                .unwrap()
            {
                LotWait::Woken(1) => break,
                LotWait::TimedOut => return false,
                LotWait::Woken(_) | LotWait::Unneeded => {}
            }
            byte = self.byte.load(Ordering::Relaxed);
        }
        self.hold();
        true
    }
}

fn beside<T: 'static>(shared: &Arc<Shared>, f: impl FnOnce(&Shared) -> T + 'static) -> thread::JoinHandle<T> {
    let shared = shared.clone();
    thread::spawn(move || f(&shared))
}

/// Two of ours and one of theirs.
#[test]
fn loom_foreign_lock_one_at_a_time() {
    for fair in [false, true] {
        bounded(3, move || {
            let shared = Shared::new(fair);
            let one = beside(&shared, Shared::ours);
            let other = beside(&shared, |shared| assert!(shared.theirs(None)));
            shared.ours();
            one.join().unwrap();
            other.join().unwrap();
            assert_eq!(shared.count(), 3);
            assert!(shared.lock().try_lock());
        });
    }
}

/// Two of theirs and one of ours, which comes by more than once.
#[test]
fn loom_foreign_lock_is_handed_over() {
    bounded(2, || {
        let shared = Shared::new(false);
        let one = beside(&shared, Shared::ours);
        let other = beside(&shared, |shared| assert!(shared.theirs(None)));
        shared.ours();
        shared.ours();
        one.join().unwrap();
        other.join().unwrap();
        assert_eq!(shared.count(), 4);
    });
}

/// One of each kind gives up as soon as it waits; the third has the lock in the end.
#[test]
fn loom_foreign_lock_some_give_up() {
    bounded(3, || {
        let shared = Shared::new(false);
        let soon = Instant::now() + SOON;
        let one = beside(&shared, move |shared| {
            let locked = shared.lock().lock_until(Some(soon)).unwrap();
            if locked {
                shared.hold();
            }
            locked
        });
        let other = beside(&shared, move |shared| shared.theirs(Some(soon)));
        shared.ours();
        let all = 1 + u32::from(one.join().unwrap()) + u32::from(other.join().unwrap());
        assert_eq!(shared.count(), all);
        assert!(shared.lock().try_lock());
    });
}

/// One that does not know of ours unlocks, and says so afterwards.
#[test]
fn loom_foreign_lock_unlocked_unawares() {
    bounded(3, || {
        let shared = Shared::new(false);
        assert!(shared.lock().try_lock());
        let one = beside(&shared, Shared::ours);
        // Not a store: loom does not order it after what another thread has put there.
        shared.byte.swap(0, Ordering::Release);
        shared.lock().nudge_all();
        one.join().unwrap();
        assert_eq!(shared.count(), 1);
    });
}

/// Who changes what is waited for takes the lot's lock only if it sees somebody wait.
#[test]
fn loom_lot_may_have_waiters() {
    bounded(3, || {
        let shared = Arc::new((Lot::new(), AtomicBool::new(false)));
        let waiter = thread::spawn({
            let shared = shared.clone();
            move || {
                let needed = || !shared.1.load(Ordering::Relaxed);
                let _ = shared.0.wait(1, (LotPlace::Back, 0), None, needed);
            }
        });
        shared.1.store(true, Ordering::Relaxed);
        if shared.0.may_have_waiters(1) {
            shared.0.wake_one(1, |_, _| Some(0), |_| {});
        }
        waiter.join().unwrap();
    });
}
