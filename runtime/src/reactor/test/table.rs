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
    assert!(table::close(&old));
    assert!(table::get(key).is_none());
    let new = table::insert_owned(fd.as_raw_fd(), false);
    assert_ne!(new.key, key);
    assert!(table::get(key).is_none(), "an event that was on its way");
    assert!(table::get(new.key).is_some());
    // Closing what is closed already leaves the new one alone.
    assert!(!table::close(&old));
    assert!(!new.load().is_closed());
    assert!(table::close(&new));
    assert!(new.load().is_closed());
}

#[test]
fn a_number_that_becomes_ours_ends_its_older_record() {
    let fd = descriptor();
    let foreign = table::check_out(fd.as_raw_fd()).expect("nobody closes it");
    let ours = table::insert_owned(fd.as_raw_fd(), true);
    assert!(foreign.load().is_closed());
    table::check_in(&foreign);
    assert!(!ours.load().is_closed());
    assert!(table::close(&ours));
}

#[test]
fn a_foreign_record_lasts_as_long_as_its_users() {
    let fd = descriptor();
    let one = table::check_out(fd.as_raw_fd()).expect("nobody closes it");
    let other = table::check_out(fd.as_raw_fd()).expect("nobody closes it");
    assert_eq!(one.key, other.key);
    table::check_in(&one);
    assert!(table::get(other.key).is_some());
    table::check_in(&other);
    assert!(table::get(other.key).is_none());
    let next = table::check_out(fd.as_raw_fd()).expect("nobody closes it");
    assert_ne!(next.key, other.key);
    table::check_in(&next);
}

#[test]
fn numbers_that_are_none_have_no_record() {
    for fd in [-1, i32::MIN, i32::MAX] {
        let key = Key { fd, generation: 0 };
        assert!(table::get(key).is_none());
        table::closing(fd);
        assert!(table::get(key).is_none());
        table::closed(fd);
    }
}

#[test]
fn a_number_that_is_being_closed_has_no_record() {
    let fd = descriptor();
    let number = fd.as_raw_fd();
    let record = table::check_out(number).expect("nobody closes it");
    table::closing(number);
    assert!(record.load().is_closed());
    assert!(table::check_out(number).is_none());
    // Two at once, by mistake: the last one counts.
    table::closing(number);
    table::closed(number);
    assert!(table::check_out(number).is_none());
    table::closed(number);
    table::check_in(&record);
    let next = table::check_out(number).expect("nobody closes it");
    table::check_in(&next);
    // One that becomes ours before its last closer says that he is done.
    table::closing(number);
    let ours = table::insert_owned(number, true);
    table::closed(number);
    assert!(table::get(ours.key).is_some());
    assert!(table::close(&ours));
}

#[test]
fn an_event_of_a_closed_record_does_no_harm() {
    let fd = descriptor();
    let record = table::insert_owned(fd.as_raw_fd(), false);
    assert!(table::close(&record));
    let mut wakes = Vec::new();
    record.notify(Event::READ, &mut wakes);
    assert!(wakes.is_empty());
}
