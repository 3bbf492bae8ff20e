//! The readiness word: what is known of a descriptor, and how many events have told of it.
//!
//! ```text
//!  bit 0      READ          a read may succeed: nothing has proved the opposite since the last event
//!  bit 1      WRITE         the same for a write
//!  bit 2      READ_CLOSED   no more will ever come: a read says so without waiting
//!  bit 3      WRITE_CLOSED  no write will ever succeed: one says so without waiting
//!  bit 4      URGENT        urgent data came: from now on a short read proves nothing
//!  bit 5      CLOSED        the owner closed the descriptor; stays set
//!  bits 8..   TICK          grows with every event
//! ```
//!
//! A direction becomes unready by proof alone: the call failed with EAGAIN, poll(2) said no, or a stream
//! gave less than was asked for. The proof is as old as the call, so it counts only if no event came since
//! the word was loaded before the call; the tick tells.

use crate::fiber::WaitReason;
use crate::loom::sync::atomic::{AtomicU64, Ordering};

const READ: u64 = 1;
const WRITE: u64 = 1 << 1;
const READ_CLOSED: u64 = 1 << 2;
const WRITE_CLOSED: u64 = 1 << 3;
const URGENT: u64 = 1 << 4;
const CLOSED: u64 = 1 << 5;
const TICK: u64 = 1 << 8;

/// What one waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read = 0,
    Write = 1,
}

impl Direction {
    pub(crate) const ALL: [Direction; 2] = [Direction::Read, Direction::Write];

    #[inline]
    pub(super) fn index(self) -> usize {
        self as usize
    }

    #[inline]
    pub(in crate::reactor) fn reason(self) -> WaitReason {
        match self {
            Direction::Read => WaitReason::Readable,
            Direction::Write => WaitReason::Writable,
        }
    }

    #[inline]
    fn open(self) -> u64 {
        match self {
            Direction::Read => READ,
            Direction::Write => WRITE,
        }
    }

    #[inline]
    fn all(self) -> u64 {
        match self {
            Direction::Read => READ | READ_CLOSED,
            Direction::Write => WRITE | WRITE_CLOSED,
        }
    }
}

/// What one event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Event {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) read_closed: bool,
    pub(crate) write_closed: bool,
    pub(crate) urgent: bool,
}

impl Event {
    pub(crate) const READ: Event = Event {
        read: true,
        write: false,
        read_closed: false,
        write_closed: false,
        urgent: false,
    };
    pub(crate) const WRITE: Event = Event {
        read: false,
        write: true,
        read_closed: false,
        write_closed: false,
        urgent: false,
    };

    fn bits(self) -> u64 {
        let bits = [
            (self.read, READ),
            (self.write, WRITE),
            (self.read_closed, READ_CLOSED),
            (self.write_closed, WRITE_CLOSED),
            (self.urgent, URGENT),
        ];
        bits.into_iter()
            .filter(|(set, _)| *set)
            .fold(0, |word, (_, bit)| word | bit)
    }

    /// Whether it is news for those who wait for `direction`.
    pub(super) fn concerns(self, direction: Direction) -> bool {
        self.bits() & direction.all() != 0
    }
}

/// What showed that a direction is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The call failed with EAGAIN, or poll(2) said no: there is neither data nor an end.
    Refused,
    /// A stream gave less than was asked for: there is no data, but there may be an end. Urgent data cuts
    /// reads short too, so that once there was some this proves nothing.
    Short,
}

/// What became of a proof.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToUnready {
    /// The direction is not ready: wait for an event.
    Unready,
    /// An event came after the call, or the proof does not hold: try again.
    StillReady,
}

/// What the one that closes finds.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToClosed {
    Closed,
    WasClosed,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct ReadyWord(AtomicU64);

/// A copy of the word at some moment.
#[derive(Clone, Copy)]
pub(crate) struct Snapshot(u64);

impl ReadyWord {
    /// A descriptor of which nothing is known: each direction counts as ready or not, as `assumed` says.
    pub(super) fn new(assumed: bool) -> Self {
        Self(AtomicU64::new(if assumed { READ | WRITE } else { 0 }))
    }

    #[inline]
    pub(super) fn load(&self) -> Snapshot {
        // Acquire pairs with the release of `transition_to_ready`: a call made after an event was seen
        // comes after what the event tells of.
        Snapshot(self.0.load(Ordering::Acquire))
    }

    /// An event came.
    pub(super) fn transition_to_ready(&self, event: Event) {
        let bits = event.bits();
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let next = (word | bits).wrapping_add(TICK);
            // Release pairs with the acquire of `load`; acquire keeps the waiters' list, looked at next,
            // from being looked at before (its lock does so as well).
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// A call made after `seen` was loaded brought `proof`.
    #[inline]
    pub(super) fn transition_to_unready(
        &self,
        seen: Snapshot,
        direction: Direction,
        proof: Proof,
    ) -> ToUnready {
        let clear = match proof {
            Proof::Refused => direction.all(),
            Proof::Short if seen.0 & URGENT != 0 => return ToUnready::StillReady,
            Proof::Short => direction.open(),
        };
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            // CLOSED does not tick, and does not make the direction ready either.
            if word / TICK != seen.0 / TICK {
                return ToUnready::StillReady;
            }
            let next = word & !clear;
            // AcqRel: nobody reads through it; it keeps the failed call before and the wait after it.
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) if next & direction.all() == 0 => return ToUnready::Unready,
                Ok(_) => return ToUnready::StillReady,
                Err(now) => word = now,
            }
        }
    }

    /// The owner closes the descriptor.
    pub(super) fn transition_to_closed(&self) -> ToClosed {
        // AcqRel: see `transition_to_ready`.
        match self.0.fetch_or(CLOSED, Ordering::AcqRel) & CLOSED {
            0 => ToClosed::Closed,
            _ => ToClosed::WasClosed,
        }
    }
}

impl Snapshot {
    #[inline]
    pub(crate) fn is_ready(self, direction: Direction) -> bool {
        self.0 & direction.all() != 0
    }

    #[inline]
    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0 / TICK)?;
        let names = [
            (READ, "read"),
            (WRITE, "write"),
            (READ_CLOSED, "read closed"),
            (WRITE_CLOSED, "write closed"),
            (URGENT, "urgent"),
            (CLOSED, "closed"),
        ];
        names
            .iter()
            .filter(|(bit, _)| self.0 & bit != 0)
            .try_for_each(|(_, name)| write!(f, "|{name}"))
    }
}
