use super::{LONG, SHORT, until};
use crate::sync::Event;
use std::thread;

#[test]
fn setting_wakes_all_and_lets_pass() {
    let event = Event::new();
    thread::scope(|s| {
        let waiters: Vec<_> = (0..40).map(|_| s.spawn(|| event.wait_timeout(LONG))).collect();
        until(|| event.waiting() == 40);
        event.set();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Ok(true));
        }
    });
    assert!(event.is_set());
    assert_eq!(event.wait(), Ok(()));
    assert_eq!(event.wait_deadline(std::time::Instant::now()), Ok(true));
    event.clear();
    assert!(!event.is_set());
    assert_eq!(event.wait_timeout(SHORT), Ok(false));
    assert_eq!(event.wait_deadline(std::time::Instant::now()), Ok(false));
    assert_eq!(event.waiting(), 0);
}

#[test]
fn who_waits_is_woken_even_if_it_is_cleared_at_once() {
    let event = Event::new();
    thread::scope(|s| {
        let waiter = s.spawn(|| event.wait_timeout(LONG));
        until(|| event.waiting() == 1);
        event.set();
        event.clear();
        assert_eq!(waiter.join().unwrap(), Ok(true));
    });
    assert!(!event.is_set());
}
