use super::{LONG, SHORT, panics, until};
use crate::sync::{LockError, LockTimeoutError, Mutex, RawMutex, TryLockError};
use std::thread;

#[test]
fn one_at_a_time() {
    let mutex = Mutex::new(0);
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for _ in 0..2000 {
                    let mut guard = mutex.lock().unwrap();
                    // Not one step, so that a second holder would be noticed.
                    let before = *guard;
                    std::hint::black_box(&before);
                    *guard = before + 1;
                }
            });
        }
    });
    assert_eq!(mutex.into_inner().unwrap(), 8000);
}

#[test]
fn try_lock_does_not_wait() {
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
    drop(guard);
    drop(mutex.try_lock().unwrap());
}

#[test]
fn a_timeout_leaves_nothing_behind() {
    let mutex = Mutex::new(());
    let guard = mutex.lock().unwrap();
    assert!(matches!(
        mutex.lock_timeout(SHORT),
        Err(LockTimeoutError::TimedOut)
    ));
    assert!(matches!(
        mutex.lock_deadline(std::time::Instant::now()),
        Err(LockTimeoutError::TimedOut)
    ));
    assert!(!mutex.raw.has_waiters());
    drop(guard);
    assert!(!mutex.raw.is_locked());
    drop(mutex.lock_timeout(LONG).unwrap());
}

#[test]
fn the_next_is_woken_when_the_first_in_line_has_timed_out() {
    let mutex = Mutex::new(());
    thread::scope(|s| {
        let guard = mutex.lock().unwrap();
        let first = s.spawn(|| mutex.lock_timeout(SHORT).is_err());
        until(|| mutex.raw.has_waiters() || first.is_finished());
        let second = s.spawn(|| drop(mutex.lock().unwrap()));
        assert!(first.join().unwrap());
        until(|| mutex.raw.has_waiters());
        drop(guard);
        second.join().unwrap();
    });
}

#[test]
fn a_panic_poisons() {
    let mut mutex = Mutex::new(1);
    panics(|| {
        let mut guard = mutex.lock().unwrap();
        *guard = 2;
        panic!("half way");
    });
    assert!(mutex.is_poisoned());
    let Err(LockError::Poisoned(guard)) = mutex.lock() else {
        panic!("it is poisoned")
    };
    assert_eq!(*guard, 2);
    drop(guard);
    assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
    assert!(matches!(
        mutex.lock_timeout(LONG),
        Err(LockTimeoutError::Poisoned(_))
    ));
    assert_eq!(*mutex.get_mut().unwrap_err().into_inner(), 2);
    mutex.clear_poison();
    assert_eq!(*mutex.lock().unwrap(), 2);
    assert_eq!(mutex.into_inner().unwrap(), 2);
}

#[test]
fn a_destructor_that_locks_while_a_panic_goes_by_does_not_poison() {
    struct LocksWhenDropped<'a>(&'a Mutex<u32>);
    impl Drop for LocksWhenDropped<'_> {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let mutex = Mutex::new(0);
    panics(|| {
        let _guard = LocksWhenDropped(&mutex);
        panic!("for another reason");
    });
    assert!(!mutex.is_poisoned());
    assert_eq!(mutex.into_inner().unwrap(), 1);
}

#[test]
fn a_raw_mutex_tells_when_it_was_not_locked() {
    let lock = RawMutex::new();
    assert!(!lock.unlock());
    assert!(lock.try_lock());
    assert!(lock.unlock());
    assert!(!lock.unlock());
    assert_eq!(lock.lock_until(Some(std::time::Instant::now() + LONG)), Ok(true));
    assert_eq!(lock.lock_until(Some(std::time::Instant::now())), Ok(false));
}

#[test]
fn a_raw_mutex_is_unlocked_by_whoever_does_it() {
    let lock = RawMutex::new();
    lock.lock().unwrap();
    thread::scope(|s| {
        let waiter = s.spawn(|| lock.lock());
        until(|| lock.has_waiters());
        assert!(s.spawn(|| lock.unlock()).join().unwrap());
        assert_eq!(waiter.join().unwrap(), Ok(()));
    });
    assert!(lock.is_locked());
}

/// With many at once, only as many succeed as there were locks.
#[test]
fn a_raw_mutex_is_unlocked_once() {
    let lock = RawMutex::new();
    for _ in 0..200 {
        lock.lock().unwrap();
        let unlocked: usize = thread::scope(|s| {
            let waiter = s.spawn(|| lock.lock_until(Some(std::time::Instant::now() + SHORT)));
            let unlockers: Vec<_> = (0..2).map(|_| s.spawn(|| usize::from(lock.unlock()))).collect();
            let unlocked: usize = unlockers
                .into_iter()
                .map(|unlocker| unlocker.join().unwrap())
                .sum();
            unlocked - usize::from(waiter.join().unwrap().unwrap())
        });
        assert_eq!(unlocked, usize::from(!lock.is_locked()));
        lock.unlock();
    }
}
