use super::{LONG, SHORT, panics, until};
use crate::sync::{LockError, LockTimeoutError, RwLock, TryLockError};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

#[test]
fn readers_share() {
    let lock = RwLock::new(5);
    let all_in = Barrier::new(3);
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                let guard = lock.read().unwrap();
                // All three hold it, or none gets past here.
                all_in.wait();
                assert_eq!(*guard, 5);
            });
        }
    });
}

#[test]
fn writers_do_not() {
    let lock = RwLock::new((0, 0));
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                for _ in 0..1000 {
                    let mut guard = lock.write().unwrap();
                    guard.0 += 1;
                    std::hint::black_box(&mut *guard);
                    guard.1 += 1;
                }
            });
            s.spawn(|| {
                for _ in 0..1000 {
                    let guard = lock.read().unwrap();
                    assert_eq!(guard.0, guard.1);
                }
            });
        }
    });
    assert_eq!(lock.into_inner().unwrap(), (2000, 2000));
}

#[test]
fn nobody_overtakes_a_writer_that_waits() {
    let lock = RwLock::new(0);
    let written = AtomicBool::new(false);
    thread::scope(|s| {
        let first = lock.read().unwrap();
        s.spawn(|| {
            *lock.write().unwrap() = 1;
            written.store(true, SeqCst);
        });
        until(|| lock.raw.has_waiters());
        assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
        let late = s.spawn(|| *lock.read().unwrap());
        assert!(!written.load(SeqCst));
        drop(first);
        assert_eq!(late.join().unwrap(), 1);
    });
    assert!(!lock.raw.has_waiters());
}

#[test]
fn readers_behind_a_writer_that_gives_up_go_on() {
    let lock = RwLock::new(());
    thread::scope(|s| {
        let first = lock.read().unwrap();
        let writer = s.spawn(|| matches!(lock.write_timeout(SHORT * 10), Err(LockTimeoutError::TimedOut)));
        until(|| lock.raw.has_waiters() || writer.is_finished());
        // It waits behind the writer, and is let in when that leaves, though `first` is still there.
        let behind = s.spawn(|| lock.read_timeout(LONG).is_ok());
        assert!(behind.join().unwrap());
        assert!(writer.join().unwrap());
        drop(first);
    });
    drop(lock.try_write().unwrap());
}

#[test]
fn timeouts() {
    let lock = RwLock::new(());
    let reader = lock.read().unwrap();
    assert!(matches!(
        lock.write_timeout(SHORT),
        Err(LockTimeoutError::TimedOut)
    ));
    drop(lock.read_timeout(SHORT).unwrap());
    drop(reader);
    let writer = lock.write_deadline(std::time::Instant::now() + LONG).unwrap();
    assert!(matches!(
        lock.read_deadline(std::time::Instant::now()),
        Err(LockTimeoutError::TimedOut)
    ));
    drop(writer);
    drop(lock.try_write().unwrap());
}

#[test]
fn only_writers_poison() {
    let mut lock = RwLock::new(1);
    panics(|| {
        let _guard = lock.read().unwrap();
        panic!("a reader changes nothing");
    });
    assert!(!lock.is_poisoned());
    panics(|| {
        let _guard = lock.write().unwrap();
        panic!("half way");
    });
    assert!(lock.is_poisoned());
    let Err(LockError::Poisoned(guard)) = lock.read() else {
        panic!("it is poisoned")
    };
    drop(guard);
    assert!(matches!(lock.try_write(), Err(TryLockError::Poisoned(_))));
    assert_eq!(*lock.get_mut().unwrap_err().into_inner(), 1);
    lock.clear_poison();
    drop(lock.write().unwrap());
}
