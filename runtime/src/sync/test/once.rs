use super::{panics, until};
use crate::sync::{InitError, Once, OnceCell, OnceError, SetError};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

#[test]
fn done_once_and_seen_by_all() {
    let cell = OnceCell::new();
    let runs = AtomicUsize::new(0);
    thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                let value = cell.get_or_init(|| {
                    runs.fetch_add(1, SeqCst);
                    until(|| cell.waiting() == 7);
                    String::from("made")
                });
                assert_eq!(value.unwrap(), "made");
            });
        }
    });
    assert_eq!(runs.into_inner(), 1);
    assert_eq!(cell.into_inner().as_deref(), Some("made"));
}

#[test]
fn after_a_panic_the_next_one_tries() {
    let once = Once::new();
    let done = AtomicUsize::new(0);
    thread::scope(|s| {
        let (once, done) = (&once, &done);
        s.spawn(move || {
            panics(|| {
                let _ = once.call_once(|| {
                    until(|| once.waiting() == 2);
                    panic!("the first try");
                });
            });
        });
        until(|| once.is_running());
        for _ in 0..2 {
            s.spawn(move || once.call_once(|| _ = done.fetch_add(1, SeqCst)).unwrap());
        }
    });
    assert_eq!(done.load(SeqCst), 1);
    assert!(once.is_completed());
}

#[test]
fn one_that_asks_for_itself_is_told() {
    let cell = OnceCell::new();
    let value = cell.get_or_init(|| {
        assert_eq!(cell.get_or_init(|| 1), Err(OnceError::Reentrant));
        assert_eq!(cell.set(2), Err(SetError::Reentrant(2)));
        assert_eq!(cell.get_or_try_init(|| Ok::<_, ()>(3)), Err(InitError::Reentrant));
        4
    });
    assert_eq!(value, Ok(&4));
}

#[test]
fn a_failure_leaves_it_empty() {
    let mut cell = OnceCell::new();
    assert_eq!(cell.get_or_try_init(|| Err("no")), Err(InitError::Failed("no")));
    assert_eq!(cell.get(), None);
    assert_eq!(cell.get_mut(), None);
    assert_eq!(cell.get_or_try_init(|| Ok::<_, ()>(5)), Ok(&5));
    assert_eq!(cell.set(6), Err(SetError::Occupied(6)));
    *cell.get_mut().unwrap() += 1;
    assert_eq!(cell.get(), Some(&6));
}

#[test]
fn set() {
    let cell = OnceCell::new();
    assert_eq!(cell.set(1), Ok(()));
    assert_eq!(cell.set(2), Err(SetError::Occupied(2)));
    assert_eq!(cell.get_or_init(|| 3), Ok(&1));
}
