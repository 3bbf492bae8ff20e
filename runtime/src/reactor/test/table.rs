//! Records of descriptors.

use crate::reactor::readiness::Event;
use crate::reactor::selector::Key;
use crate::reactor::table;
use std::os::fd::{AsRawFd, OwnedFd};

fn descriptor() -> OwnedFd {
    std::fs::File::open("/dev/null").expect("it is there").into()
}

#[test]
fn an_event_of_an_older_generation_finds_nobody() {
    let fd = descriptor();
    let old = table::insert_owned(fd.as_raw_fd(), false);
    let key = old.key;
    assert!(table::get(key).is_some());
    assert!(table::close(key.fd, Some(&old)));
    assert!(table::get(key).is_none());
    let new = table::insert_owned(fd.as_raw_fd(), false);
    assert_ne!(new.key, key);
    assert!(table::get(key).is_none(), "an event that was on its way");
    assert!(table::get(new.key).is_some());
    // Closing what is closed already leaves the new one alone.
    assert!(!table::close(key.fd, Some(&old)));
    assert!(!new.load().is_closed());
    assert!(table::close(key.fd, None));
    assert!(new.load().is_closed());
}

#[test]
fn a_number_that_becomes_ours_ends_its_older_record() {
    let fd = descriptor();
    let foreign = table::check_out(fd.as_raw_fd());
    let ours = table::insert_owned(fd.as_raw_fd(), true);
    assert!(foreign.load().is_closed());
    table::check_in(&foreign);
    assert!(!ours.load().is_closed());
    assert!(table::close(fd.as_raw_fd(), Some(&ours)));
}

#[test]
fn a_foreign_record_lasts_as_long_as_its_users() {
    let fd = descriptor();
    let one = table::check_out(fd.as_raw_fd());
    let other = table::check_out(fd.as_raw_fd());
    assert_eq!(one.key, other.key);
    table::check_in(&one);
    assert!(table::get(other.key).is_some());
    table::check_in(&other);
    assert!(table::get(other.key).is_none());
    let next = table::check_out(fd.as_raw_fd());
    assert_ne!(next.key, other.key);
    table::check_in(&next);
}

#[test]
fn numbers_that_are_none_have_no_record() {
    assert!(!table::close(-1, None));
    assert!(!table::close(i32::MAX, None));
    assert!(
        table::get(Key {
            fd: i32::MAX,
            generation: 0
        })
        .is_none()
    );
}

#[test]
fn an_event_of_a_closed_record_does_no_harm() {
    let fd = descriptor();
    let record = table::insert_owned(fd.as_raw_fd(), false);
    assert!(table::close(fd.as_raw_fd(), Some(&record)));
    let mut wakes = Vec::new();
    record.notify(Event::READ, &mut wakes);
    assert!(wakes.is_empty());
}
