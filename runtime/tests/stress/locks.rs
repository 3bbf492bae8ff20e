//! Locks, conditions, permits and events that all share, taken with and without timeouts, given up and cancelled,
//! held across waits, and poisoned.

use crate::common::Rng;
use crate::storm::{Count, Expected, add, pass_time, short, total};
use roving_runtime::sync::{
    Condvar, Event, LockError, LockTimeoutError, Mutex, MutexGuard, RwLock, Semaphore, TryLockError,
};
use std::sync::atomic::{AtomicUsize, Ordering};

const PERMITS: usize = 4;

pub(crate) struct Locks {
    /// Equal whenever nobody holds it.
    mutex: Mutex<(u64, u64)>,
    rwlock: RwLock<(u64, u64)>,
    readers: AtomicUsize,
    writers: AtomicUsize,
    semaphore: Semaphore,
    /// Permits in use.
    inside: AtomicUsize,
    event: Event,
    /// Items and the two counts of what went in and out of them.
    stock: Mutex<Stock>,
    arrived: Condvar,
    locked: Count,
    gave_up: Count,
    poisoned: Count,
    healed: Count,
}

#[derive(Default)]
struct Stock {
    items: u64,
    put: u64,
    taken: u64,
}

impl Locks {
    pub(crate) fn new() -> Self {
        Self {
            mutex: Mutex::default(),
            rwlock: RwLock::default(),
            readers: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
            semaphore: Semaphore::new(PERMITS),
            inside: AtomicUsize::new(0),
            event: Event::new(),
            stock: Mutex::default(),
            arrived: Condvar::new(),
            locked: Count::default(),
            gave_up: Count::default(),
            poisoned: Count::default(),
            healed: Count::default(),
        }
    }

    pub(crate) fn use_one(&self, rng: &mut Rng) {
        let done = match rng.below(7) {
            0 | 1 => self.use_mutex(rng),
            2 => self.read(rng),
            3 => self.write(rng),
            4 => self.use_semaphore(rng),
            5 => self.use_condition(rng),
            _ => self.use_event(rng),
        };
        add(if done { &self.locked } else { &self.gave_up }, 1);
    }

    /// Panics with the mutex in hand.
    pub(crate) fn panic_inside(&self) -> ! {
        // Whatever became of it, there must be a panic.
        let _guard = self.mutex.lock().or_else(LockError::into_guard);
        if let Ok(_guard) = &_guard {
            add(&self.poisoned, 1);
        }
        std::panic::resume_unwind(Box::new(Expected));
    }

    fn lock(&self, rng: &mut Rng) -> Option<MutexGuard<'_, (u64, u64)>> {
        let heal = |guard| {
            add(&self.healed, 1);
            self.mutex.clear_poison();
            Some(guard)
        };
        match rng.below(3) {
            0 => match self.mutex.lock() {
                Ok(guard) => Some(guard),
                Err(LockError::Poisoned(guard)) => heal(guard),
                Err(LockError::Cancelled) => None,
            },
            1 => match self.mutex.lock_timeout(short(rng)) {
                Ok(guard) => Some(guard),
                Err(LockTimeoutError::Poisoned(guard)) => heal(guard),
                Err(LockTimeoutError::Cancelled | LockTimeoutError::TimedOut) => None,
            },
            _ => match self.mutex.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(guard)) => heal(guard),
                Err(TryLockError::WouldBlock) => None,
            },
        }
    }

    fn use_mutex(&self, rng: &mut Rng) -> bool {
        let Some(mut guard) = self.lock(rng) else {
            return false;
        };
        assert_eq!(guard.0, guard.1, "one at a time holds the mutex");
        guard.0 += 1;
        pass_time(rng);
        guard.1 += 1;
        true
    }

    fn read(&self, rng: &mut Rng) -> bool {
        let guard = match rng.below(3) {
            0 => self.rwlock.read().ok(),
            1 => self.rwlock.read_timeout(short(rng)).ok(),
            _ => self.rwlock.try_read().ok(),
        };
        let Some(guard) = guard else { return false };
        self.readers.fetch_add(1, Ordering::SeqCst);
        assert_eq!(
            self.writers.load(Ordering::SeqCst),
            0,
            "no writer beside a reader"
        );
        let seen = *guard;
        pass_time(rng);
        assert_eq!((seen, seen.0), (*guard, guard.1), "nobody writes while one reads");
        self.readers.fetch_sub(1, Ordering::SeqCst);
        true
    }

    fn write(&self, rng: &mut Rng) -> bool {
        let guard = match rng.below(3) {
            0 => self.rwlock.write().ok(),
            1 => self.rwlock.write_timeout(short(rng)).ok(),
            _ => self.rwlock.try_write().ok(),
        };
        let Some(mut guard) = guard else { return false };
        assert_eq!(self.writers.fetch_add(1, Ordering::SeqCst), 0, "one writer");
        guard.0 += 1;
        pass_time(rng);
        guard.1 += 1;
        assert_eq!(
            self.readers.load(Ordering::SeqCst),
            0,
            "no reader beside a writer"
        );
        self.writers.fetch_sub(1, Ordering::SeqCst);
        true
    }

    fn use_semaphore(&self, rng: &mut Rng) -> bool {
        let wanted = 1 + rng.below(PERMITS as u64) as usize;
        let permit = match rng.below(3) {
            0 => self.semaphore.acquire_many(wanted).ok(),
            1 => self.semaphore.acquire_many_timeout(wanted, short(rng)).ok(),
            _ => self.semaphore.try_acquire_many(wanted).ok(),
        };
        let Some(_permit) = permit else { return false };
        let inside = self.inside.fetch_add(wanted, Ordering::SeqCst) + wanted;
        assert!(inside <= PERMITS, "no more permits than there are");
        pass_time(rng);
        self.inside.fetch_sub(wanted, Ordering::SeqCst);
        true
    }

    /// Puts items, or waits for one.
    fn use_condition(&self, rng: &mut Rng) -> bool {
        let Ok(mut stock) = self.stock.lock() else {
            return false;
        };
        let puts = rng.below(3);
        if puts > 0 {
            stock.items += puts;
            stock.put += puts;
            drop(stock);
            match puts {
                1 => _ = self.arrived.notify_one(),
                _ => self.arrived.notify_all(),
            }
            return true;
        }
        let is_empty = |stock: &mut Stock| stock.items == 0;
        let mut stock = match self.arrived.wait_timeout_while(stock, short(rng), is_empty) {
            Ok((stock, _)) => stock,
            Err(error) => error.into_guard(),
        };
        // The lock is ours again, whatever ended the wait.
        if stock.items == 0 {
            return false;
        }
        stock.items -= 1;
        stock.taken += 1;
        true
    }

    fn use_event(&self, rng: &mut Rng) -> bool {
        match rng.below(4) {
            0 | 1 => self.event.set(),
            2 => self.event.clear(),
            _ => return self.event.wait_timeout(short(rng)) == Ok(true),
        }
        true
    }

    /// What ends waits that have no timeout: for a plain thread, again and again.
    pub(crate) fn pump(&self) {
        self.event.set();
    }

    pub(crate) fn balance(&self) {
        let counts = *match self.mutex.try_lock() {
            Ok(guard) | Err(TryLockError::Poisoned(guard)) => guard,
            Err(TryLockError::WouldBlock) => panic!("the mutex is free"),
        };
        assert_eq!(counts.0, counts.1);
        let rwlock = *self.rwlock.try_write().expect("the rwlock is free");
        assert_eq!(rwlock.0, rwlock.1);
        assert_eq!(
            self.semaphore.available_permits(),
            PERMITS,
            "all permits are back"
        );
        let stock = self.stock.try_lock().expect("the stock is free");
        assert_eq!(stock.put, stock.taken + stock.items, "every item was taken once");
        // Poison may be missed (a neighbour parked in the middle of unwinding), never made up.
        let [poisoned, healed] = [&self.poisoned, &self.healed].map(total);
        assert!(healed <= poisoned, "{healed} of {poisoned} poisoned");
        let [locked, gave_up] = [&self.locked, &self.gave_up].map(total);
        eprintln!("storm: {locked} times locked, {gave_up} given up, {healed} found poisoned");
    }
}
