//! The list of slabs that the signal handler reads.

use crate::loom::sync::atomic::{AtomicBool, Ordering};
use crate::stack::registry::{Span, Ticket, find_guard, register};

/// Spans at addresses where nothing is ever mapped.
fn fake(index: usize, slot_size: usize) -> Span {
    let start = 0x7000_0000_0000_0000 + index * (16 << 20);
    Span {
        start,
        end: start + (16 << 20),
        slot_size,
        guard_len: 4096,
    }
}

#[test]
fn finds_guards_and_nothing_else() {
    let spans: Vec<Span> = (0..300).map(|index| fake(index, 512 << 10)).collect();
    let mut tickets: Vec<_> = spans.iter().map(|&span| Some(register(span))).collect();
    for &span in &spans {
        for slot in (span.start..span.end).step_by(7 * span.slot_size) {
            assert_eq!(find_guard(slot), Some((span, slot)));
            assert_eq!(find_guard(slot + 4095), Some((span, slot)));
            assert_eq!(find_guard(slot + 4096), None);
            assert_eq!(find_guard(slot + span.slot_size - 1), None);
        }
    }
    for (index, ticket) in tickets.iter_mut().enumerate().filter(|(index, _)| index % 3 == 0) {
        ticket.take().expect("registered").retire();
        assert_eq!(find_guard(spans[index].start), None);
    }
    for (index, &span) in spans.iter().enumerate() {
        assert_eq!(find_guard(span.start).is_some(), index % 3 != 0);
    }
    tickets.into_iter().flatten().for_each(Ticket::retire);
    assert_eq!(find_guard(0), None);
    assert_eq!(find_guard(usize::MAX), None);
}

#[test]
fn a_reader_never_sees_half_an_entry() {
    // Two spans that take turns in one entry; a mixture of them would put a guard elsewhere.
    let (low, high) = (fake(1000, 1 << 20), fake(1001, 4 << 20));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                register(low).retire();
                register(high).retire();
            }
        });
        for _ in 0..5_000 {
            // In the high one it is 1 MiB into a slot of 4 MiB.
            assert_eq!(find_guard(high.start + (1 << 20)), None);
            assert!(
                find_guard(low.start + (1 << 20)).is_none_or(|found| found == (low, low.start + (1 << 20)))
            );
        }
        stop.store(true, Ordering::Relaxed);
    });
}
