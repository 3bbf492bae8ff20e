//! Scheduling by chance, for tests: one worker, and every turn is drawn from all that could have it.
//!
//! After shuttle's random scheduler and Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding
//! bugs" (ASPLOS 2010); without its priorities: each of the fibers that can go on, and each that could start, is as likely
//! as any other. The generator's seed decides all of it, so the same seed gives the same order wherever the fibers do the
//! same things: what comes from outside (threads, descriptors, the system's time) it does not decide.

#[cfg(not(loom))]
use super::home::with_here;
use super::hub::Hub;
#[cfg(not(loom))]
use crate::fiber::{current, yield_now};
use crate::loom::sync::atomic::{AtomicU64, Ordering};

/// The generator: SplitMix64 (Steele, Lea and Flood, 2014), whose state is a counter.
pub(crate) struct Chance(AtomicU64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Begins anew.
    pub(crate) fn seed(&self, seed: u64) {
        self.0.store(seed, Ordering::Relaxed);
    }

    pub(super) fn next(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut bits = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ bits >> 31
    }

    /// A number below `bound`, each as likely as any other to within 2^-32 (Lemire, 2019).
    pub(super) fn below(&self, bound: usize) -> usize {
        (((self.next() >> 32) * bound as u64) >> 32) as usize
    }
}

/// A number from the seed's generator, on a worker that schedules by chance; `None` elsewhere.
#[cfg(not(loom))]
pub fn chance() -> Option<u64> {
    with_here(|here| here.hub.chance.as_ref().map(Chance::next)).flatten()
}

/// Where another fiber could as well have gone on: on a worker that schedules by chance, yields or does not. Elsewhere it does
/// nothing. An embedder calls it where fibers on several workers could overtake one another: around what they share.
#[cfg(not(loom))]
pub fn chance_to_switch() {
    if current::fiber().is_some() && chance().is_some_and(|number| number & 1 == 0) {
        yield_now();
    }
}

impl Hub {
    /// Whether turns are drawn.
    #[inline]
    pub(crate) fn is_by_chance(&self) -> bool {
        self.chance.is_some()
    }
}

#[cfg(all(test, not(loom)))]
mod test {
    use super::Chance;

    #[test]
    fn every_number_is_as_likely_and_a_seed_gives_them_again() {
        let chance = Chance::new(7);
        let mut counts = [0; 3];
        let drawn: Vec<_> = (0..6000).map(|_| chance.below(3)).collect();
        drawn.iter().for_each(|&number| counts[number] += 1);
        // 2,000 are expected of each, with a deviation of 37.
        assert!(
            counts.iter().all(|count| (1750..2250).contains(count)),
            "{counts:?}"
        );
        chance.seed(7);
        assert!(drawn.iter().all(|&number| number == chance.below(3)));
        chance.seed(8);
        assert!(drawn.iter().any(|&number| number != chance.below(3)));
    }
}
