//! The readiness word.

use super::word::{Direction, Event, Proof, ReadyWord, ToClosed, ToUnready};

const CLOSED_READ: Event = Event {
    read: true,
    write: false,
    read_closed: true,
    write_closed: false,
    urgent: false,
};
const URGENT: Event = Event {
    read: true,
    write: false,
    read_closed: false,
    write_closed: false,
    urgent: true,
};

#[test]
fn an_assumption_is_as_good_as_an_event() {
    for (assumed, ready) in [(true, true), (false, false)] {
        let word = ReadyWord::new(assumed).load();
        assert_eq!(
            Direction::ALL.map(|direction| word.is_ready(direction)),
            [ready; 2]
        );
        assert!(!word.is_closed());
    }
}

#[test]
fn a_proof_makes_its_direction_unready() {
    let word = ReadyWord::new(true);
    assert_eq!(
        word.transition_to_unready(word.load(), Direction::Read, Proof::Refused),
        ToUnready::Unready
    );
    assert!(!word.load().is_ready(Direction::Read));
    assert!(word.load().is_ready(Direction::Write));
    word.transition_to_ready(Event::READ);
    assert!(word.load().is_ready(Direction::Read));
}

#[test]
fn an_event_voids_a_proof() {
    for event in [Event::READ, Event::WRITE] {
        let word = ReadyWord::new(true);
        let seen = word.load();
        word.transition_to_ready(event);
        assert_eq!(
            word.transition_to_unready(seen, Direction::Read, Proof::Refused),
            ToUnready::StillReady
        );
        assert!(word.load().is_ready(Direction::Read));
    }
}

#[test]
fn only_a_refusal_proves_that_there_is_no_end() {
    let word = ReadyWord::new(false);
    word.transition_to_ready(CLOSED_READ);
    assert_eq!(
        word.transition_to_unready(word.load(), Direction::Read, Proof::Short),
        ToUnready::StillReady
    );
    assert!(
        word.load().is_ready(Direction::Read),
        "the end is still to be read"
    );
    assert_eq!(
        word.transition_to_unready(word.load(), Direction::Read, Proof::Refused),
        ToUnready::Unready
    );
    assert!(!word.load().is_ready(Direction::Read));
}

#[test]
fn after_urgent_data_short_reads_prove_nothing() {
    let word = ReadyWord::new(true);
    word.transition_to_ready(URGENT);
    assert_eq!(
        word.transition_to_unready(word.load(), Direction::Read, Proof::Short),
        ToUnready::StillReady
    );
    assert!(word.load().is_ready(Direction::Read));
    assert_eq!(
        word.transition_to_unready(word.load(), Direction::Read, Proof::Refused),
        ToUnready::Unready
    );
    // For good: more may come.
    word.transition_to_ready(Event::READ);
    assert_eq!(
        word.transition_to_unready(word.load(), Direction::Read, Proof::Short),
        ToUnready::StillReady
    );
}

#[test]
fn a_close_is_for_good() {
    let word = ReadyWord::new(true);
    assert_eq!(word.transition_to_closed(), ToClosed::Closed);
    assert_eq!(word.transition_to_closed(), ToClosed::WasClosed);
    word.transition_to_ready(Event::READ);
    let _ = word.transition_to_unready(word.load(), Direction::Read, Proof::Refused);
    assert!(word.load().is_closed());
}

#[test]
fn an_event_concerns_whom_it_tells_something() {
    for (event, read, write) in [
        (Event::READ, true, false),
        (Event::WRITE, false, true),
        (CLOSED_READ, true, false),
        (
            Event {
                write_closed: true,
                ..Event::default()
            },
            false,
            true,
        ),
        (Event::default(), false, false),
    ] {
        assert_eq!(
            [event.concerns(Direction::Read), event.concerns(Direction::Write)],
            [read, write]
        );
    }
}
