//! When to look outside: every 61 turns or 200 us, whichever comes first.
//!
//! Reading the clock costs 25 ns, as much as a short turn, so it is read every sixteenth turn, and more
//! often when turns are long: the next reading is set so that about half of the 200 us pass before it.

use std::time::Instant;

const TURNS: u32 = 61;
const NANOS: u64 = 200_000;
const MAX_STRIDE: u32 = 16;

pub(super) struct Clock {
    origin: Instant,
    now: u64,
    last_look: u64,
    turns_since_look: u32,
    stride: u32,
    until_reading: u32,
}

impl Clock {
    pub(super) fn new(origin: Instant) -> Self {
        Self {
            origin,
            now: 0,
            last_look: 0,
            turns_since_look: 0,
            stride: 1,
            until_reading: 1,
        }
    }

    /// Called once a turn; true when it is time to look.
    #[inline]
    pub(super) fn turn(&mut self) -> bool {
        self.turns_since_look += 1;
        self.until_reading -= 1;
        if self.until_reading == 0 {
            self.read_after_turns();
        }
        self.turns_since_look >= TURNS || self.now - self.last_look >= NANOS
    }

    fn read_after_turns(&mut self) {
        let before = self.now;
        let turn = (self.read() - before) / u64::from(self.stride);
        let stride = (NANOS / 2) / turn.max(1);
        self.stride = u32::try_from(stride).unwrap_or(MAX_STRIDE).clamp(1, MAX_STRIDE);
        self.until_reading = self.stride;
    }

    /// Reads the clock: nanoseconds since the origin.
    pub(super) fn read(&mut self) -> u64 {
        let now = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // A clock that steps back (it should not: Instant is monotonic) must not make a turn negative.
        self.now = self.now.max(now);
        self.now
    }

    /// The last reading.
    pub(super) fn coarse(&self) -> u64 {
        self.now
    }

    /// Called when the worker has looked.
    pub(super) fn looked(&mut self) {
        self.turns_since_look = 0;
        self.last_look = self.now;
    }
}

#[cfg(all(test, not(loom)))]
mod test {
    use super::*;

    #[test]
    fn short_turns_look_every_61() {
        let mut clock = Clock::new(Instant::now());
        let mut looks = 0;
        for _ in 0..610 {
            if clock.turn() {
                looks += 1;
                clock.looked();
            }
        }
        // A slow machine may add looks by time, never lose one by turns.
        assert!(looks >= 10, "{looks}");
    }

    #[test]
    fn a_clock_that_jumps_neither_stops_the_looks_nor_makes_time_negative() {
        let mut clock = Clock::new(Instant::now());
        // It stepped back by an hour: until it has made up for that, turns alone decide.
        let ahead = 3_600_000_000_000;
        clock.now = ahead;
        clock.looked();
        assert_eq!(clock.read(), ahead);
        let looks = (0..610).filter(|_| {
            let look = clock.turn();
            if look {
                clock.looked();
            }
            look
        });
        assert_eq!(looks.count(), 10);
        // Forward: one look, and on as before.
        clock.last_look = 0;
        assert!(clock.turn());
        clock.looked();
        assert!(!clock.turn());
    }

    #[test]
    fn long_turns_are_noticed_at_once() {
        let mut clock = Clock::new(Instant::now());
        for _ in 0..200 {
            let _ = clock.turn();
        }
        clock.read();
        clock.looked();
        // Two turns of a millisecond: after the first reading the stride is one.
        for _ in 0..MAX_STRIDE {
            clock.turns_since_look = 0;
            std::thread::sleep(std::time::Duration::from_millis(1));
            if clock.turn() {
                clock.looked();
                break;
            }
        }
        clock.turns_since_look = 0;
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(clock.turn());
    }
}
