//! The arithmetic of rate limits: the generic cell rate algorithm (ITU-T I.371), a token bucket that needs one number.
//!
//! `full_at` is when the bucket is full again; it holds `burst` tokens, and gets one every `period / count`. Kept in
//! microseconds, so that thousands a second have their spacing.

use crate::api::Rate;

impl Rate {
    fn spacing(&self) -> i64 {
        (self.period * 1000 / i64::from(self.count)).max(1)
    }

    fn capacity(&self) -> i64 {
        self.spacing() * i64::from(self.burst)
    }

    /// A state that no bucket of this rate can have comes from a clock that began anew: the machine was restarted, and the
    /// bucket is full.
    fn sane(&self, full_at: i64, now: i64) -> i64 {
        if full_at > now.saturating_add(self.capacity()) {
            now
        } else {
            full_at.max(now)
        }
    }

    /// The state of a bucket that had another rate before: as it was, or empty.
    pub(crate) fn adopt(&self, full_at: i64, now: i64) -> i64 {
        full_at.min(now * 1000 + self.capacity())
    }

    /// How many tokens there are, by the steady clock in milliseconds.
    pub(crate) fn tokens(&self, full_at: i64, now: i64) -> usize {
        let now = now * 1000;
        ((now + self.capacity() - self.sane(full_at, now)) / self.spacing()) as usize
    }

    /// The state after `tokens` are taken.
    pub(crate) fn take(&self, full_at: i64, now: i64, tokens: usize) -> i64 {
        self.sane(full_at, now * 1000) + self.spacing() * tokens as i64
    }

    /// When there is a token again, by the steady clock in milliseconds.
    pub(crate) fn next(&self, full_at: i64, now: i64) -> i64 {
        let micros = self.sane(full_at, now * 1000) + self.spacing() - self.capacity();
        (micros + 999) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate {
            count: 100,
            period: 60_000,
            burst: 5,
        };
        let (mut now, mut state) = (1_000_000, 0);
        assert_eq!(rate.tokens(state, now), 5);
        state = rate.take(state, now, 5);
        assert_eq!(rate.tokens(state, now), 0);
        assert_eq!(rate.next(state, now), now + 600);
        now += 599;
        assert_eq!(rate.tokens(state, now), 0);
        now += 1;
        assert_eq!(rate.tokens(state, now), 1);
        now += 1_000_000;
        assert_eq!(rate.tokens(state, now), 5);
    }

    #[test]
    fn a_reboot_does_not_close_a_limit_for_years() {
        let rate = Rate {
            count: 1,
            period: 1000,
            burst: 1,
        };
        let state = rate.take(0, 1_000_000_000_000, 1);
        assert_eq!(rate.tokens(state, 5), 1);
        let state = rate.take(state, 5, 1);
        assert_eq!((rate.tokens(state, 1004), rate.tokens(state, 1005)), (0, 1));
    }

    #[test]
    fn a_slower_rate_keeps_the_bucket_empty_and_not_longer() {
        let (fast, slow) = (
            Rate {
                count: 1,
                period: 60_000,
                burst: 9,
            },
            Rate {
                count: 1,
                period: 1000,
                burst: 1,
            },
        );
        let state = slow.adopt(fast.take(0, 1000, 9), 1000);
        assert_eq!((slow.tokens(state, 1999), slow.tokens(state, 2000)), (0, 1));
    }
}
