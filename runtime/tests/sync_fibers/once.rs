//! Once and OnceCell.

use crate::support::{SHORT, on_each};
use roving_runtime::sync::{Once, OnceCell, OnceError};
use roving_runtime::{sleep, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

#[test]
fn others_wait_while_it_is_done_once() {
    on_each(|runtime| {
        let cell = Arc::new(OnceCell::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let work = || {
            let (cell, runs) = (cell.clone(), runs.clone());
            move || {
                let value = cell.get_or_init(|| {
                    runs.fetch_add(1, SeqCst);
                    // Parks in the middle: fibers of the same worker come by and are not taken for it.
                    sleep(SHORT).unwrap();
                    7
                });
                assert_eq!(value, Ok(&7));
            }
        };
        let fibers: Vec<_> = (0..20).map(|_| runtime.spawn(work())).collect();
        let thread = std::thread::spawn(work());
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        thread.join().unwrap();
        assert_eq!(runs.load(SeqCst), 1);
    });
}

#[test]
fn a_panicking_initialisation_is_tried_by_the_next() {
    on_each(|runtime| {
        let once = Arc::new(Once::new());
        let tries = Arc::new(AtomicUsize::new(0));
        let fibers: Vec<_> = (0..10)
            .map(|_| {
                let (once, tries) = (once.clone(), tries.clone());
                runtime.spawn(move || {
                    let call = once.call_once(|| {
                        yield_now();
                        assert_eq!(tries.fetch_add(1, SeqCst), 4, "not yet");
                    });
                    call.unwrap();
                })
            })
            .collect();
        let panicked = fibers.into_iter().filter_map(|fiber| fiber.join().err()).count();
        assert_eq!((panicked, tries.load(SeqCst)), (4, 5));
        assert!(once.is_completed());
    });
}

#[test]
fn a_fiber_that_asks_for_its_own_initialisation_is_told() {
    on_each(|runtime| {
        let cell = Arc::new(OnceCell::new());
        let fiber = runtime.spawn({
            let cell = cell.clone();
            move || {
                let value = cell.get_or_init(|| {
                    yield_now();
                    assert_eq!(cell.get_or_init(|| 1), Err(OnceError::Reentrant));
                    2
                });
                assert_eq!(value, Ok(&2));
            }
        });
        fiber.join().unwrap();
        assert_eq!(cell.get(), Some(&2));
    });
}
