//! In which order a select tries its operations: none may be favoured.

/// Shuffles (Fisher and Yates) by the thread's own numbers.
#[cfg(not(loom))]
pub(super) fn shuffle(items: &mut [u32]) {
    use std::cell::Cell;

    crate::loom::thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    if items.len() < 2 {
        return;
    }
    STATE.with(|state| {
        // SplitMix64 (Steele, Lea and Flood, 2014): any start is good, also that all threads start alike.
        let mut counter = crate::scheduler::chance().unwrap_or_else(|| state.get());
        for last in (1..items.len()).rev() {
            counter = counter.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut bits = counter;
            bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            bits ^= bits >> 31;
            // The high half times the range, over 2^32 (Lemire, 2019): a bias of 2^-32 at most per item.
            let other = ((bits >> 32) * (last as u64 + 1)) >> 32;
            items.swap(last, other as usize);
        }
        state.set(counter);
    });
}

/// A model wants the same order at each run.
#[cfg(loom)]
pub(super) fn shuffle(_items: &mut [u32]) {}

#[cfg(all(test, not(loom)))]
mod test {
    #[test]
    fn every_place_is_as_likely_for_every_item() {
        const ROUNDS: usize = 6000;
        let mut counts = [[0; 3]; 3];
        for _ in 0..ROUNDS {
            let mut items = [0, 1, 2];
            super::shuffle(&mut items);
            for (place, item) in items.into_iter().enumerate() {
                counts[item as usize][place] += 1;
            }
        }
        // 2,000 are expected of each, with a deviation of 37.
        assert!(
            counts.iter().flatten().all(|count| (1750..2250).contains(count)),
            "{counts:?}"
        );
    }
}
