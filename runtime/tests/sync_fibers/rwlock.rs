//! RwLock.

use crate::support::{LONG, on_each, until_parked};
use roving_runtime::sync::{LockError, RwLock};
use roving_runtime::{WaitReason, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

#[test]
fn readers_share_and_writers_do_not() {
    on_each(|runtime| {
        let lock = Arc::new(RwLock::new((0, 0)));
        let (reading, together) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let writers: Vec<_> = (0..3)
            .map(|_| {
                let lock = lock.clone();
                runtime.spawn(move || {
                    for round in 0..200 {
                        let mut guard = lock.write().unwrap();
                        guard.0 += 1;
                        if round % 16 == 0 {
                            yield_now();
                        }
                        guard.1 += 1;
                    }
                })
            })
            .collect();
        let read = || {
            let (lock, reading, together) = (lock.clone(), reading.clone(), together.clone());
            move || {
                for _ in 0..200 {
                    let guard = lock.read().unwrap();
                    together.fetch_max(reading.fetch_add(1, SeqCst) + 1, SeqCst);
                    assert_eq!(guard.0, guard.1);
                    yield_now();
                    reading.fetch_sub(1, SeqCst);
                }
            }
        };
        let readers: Vec<_> = (0..4).map(|_| runtime.spawn(read())).collect();
        let thread = std::thread::spawn(read());
        writers
            .into_iter()
            .chain(readers)
            .for_each(|fiber| fiber.join().unwrap());
        thread.join().unwrap();
        assert_eq!(*lock.read().unwrap(), (600, 600));
        assert!(together.load(SeqCst) > 1, "readers never were together");
    });
}

#[test]
fn readers_behind_a_cancelled_writer_go_on() {
    on_each(|runtime| {
        let lock = Arc::new(RwLock::new(()));
        let first = lock.read().unwrap();
        let writer = runtime.spawn({
            let lock = lock.clone();
            move || matches!(lock.write(), Err(LockError::Cancelled))
        });
        until_parked(runtime, WaitReason::RwLock, 1);
        let behind: Vec<_> = (0..40)
            .map(|_| {
                let lock = lock.clone();
                runtime.spawn(move || drop(lock.read().unwrap()))
            })
            .collect();
        until_parked(runtime, WaitReason::RwLock, 41);
        writer.cancel();
        assert!(writer.join().unwrap());
        behind.into_iter().for_each(|fiber| fiber.join().unwrap());
        drop(first);
        drop(lock.try_write().unwrap());
    });
}

#[test]
fn writers_do_not_starve_among_readers() {
    on_each(|runtime| {
        let lock = Arc::new(RwLock::new(()));
        let enough = Arc::new(AtomicBool::new(false));
        // They overlap: at no moment would the lock be free of readers.
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (lock, enough) = (lock.clone(), enough.clone());
                runtime.spawn(move || {
                    let mut guard = lock.read().unwrap();
                    while !enough.load(SeqCst) {
                        yield_now();
                        drop(guard);
                        guard = lock.read().unwrap();
                    }
                })
            })
            .collect();
        let writer = runtime.spawn({
            let lock = lock.clone();
            move || (0..50).for_each(|_| drop(lock.write_timeout(LONG).unwrap()))
        });
        writer.join().unwrap();
        enough.store(true, SeqCst);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}
