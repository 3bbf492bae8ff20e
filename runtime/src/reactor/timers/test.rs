use super::*;
use std::collections::BTreeMap;

const MS: Duration = Duration::from_millis(1);

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Hands out all that is due.
fn expire<T>(queue: &mut TimerQueue<T>, now: Instant) -> Vec<T> {
    std::iter::from_fn(|| queue.pop_expired(now))
        .map(|(_, value)| value)
        .collect()
}

#[test]
fn timers_come_due_in_order() {
    let mut queue = TimerQueue::new();
    let start = Instant::now();
    assert!(queue.is_empty() && queue.next_deadline().is_none() && queue.pop_expired(start).is_none());
    for after in [5, 3, 9, 1, 7] {
        queue.insert(start + after * MS, after);
    }
    assert_eq!((queue.len(), queue.next_deadline()), (5, Some(start + MS)));
    assert_eq!(queue.pop_expired(start + MS - Duration::from_nanos(1)), None);
    assert_eq!(queue.pop_expired(start + MS), Some((start + MS, 1)));
    assert_eq!(expire(&mut queue, start + 7 * MS), [3, 5, 7]);
    assert_eq!(expire(&mut queue, start + 1000 * MS), [9]);
    assert!(queue.is_empty());
}

#[test]
fn equal_deadlines_are_first_in_first_out() {
    let mut queue = TimerQueue::new();
    let at = Instant::now() + MS;
    let keys: Vec<TimerKey> = (0..1000).map(|nth| queue.insert(at, nth)).collect();
    for nth in (0..1000).step_by(3) {
        assert_eq!(queue.cancel(keys[nth]), Some(nth));
    }
    let expected: Vec<usize> = (0..1000).filter(|nth| nth % 3 != 0).collect();
    assert_eq!(expire(&mut queue, at), expected);
}

#[test]
fn orders_run_out_without_anybody_noticing() {
    let mut queue = TimerQueue::new();
    let at = Instant::now() + MS;
    queue.next_order = u32::MAX - 50;
    let keys: Vec<TimerKey> = (0..100).map(|nth| queue.insert(at + nth % 2 * MS, nth)).collect();
    assert!(queue.next_order < 200);
    queue.heap.check();
    assert_eq!(queue.cancel(keys[10]), Some(10));
    let expected: Vec<u32> = (0..100).filter(|nth| nth % 2 == 0 && *nth != 10).collect();
    assert_eq!(expire(&mut queue, at), expected);
    assert_eq!(
        expire(&mut queue, at + MS),
        (0..100).filter(|nth| nth % 2 == 1).collect::<Vec<u32>>()
    );
}

#[test]
fn a_deadline_in_the_past_is_due_at_once() {
    let now = Instant::now();
    let mut queue = TimerQueue::with_origin(now);
    queue.insert(now + MS, 'c');
    queue.insert(now.checked_sub(MS).expect("the clock has run for a while"), 'a');
    queue.insert(
        now.checked_sub(2 * MS).expect("the clock has run for a while"),
        'b',
    );
    assert_eq!(queue.next_deadline(), Some(now));
    assert_eq!(
        expire(
            &mut queue,
            now.checked_sub(5 * MS).expect("the clock has run for a while")
        ),
        ['a', 'b']
    );
    assert_eq!(expire(&mut queue, now), []);
    assert_eq!(expire(&mut queue, now + MS), ['c']);
}

#[test]
fn a_deadline_in_the_far_future_never_is() {
    let now = Instant::now();
    let mut queue = TimerQueue::new();
    let Some(far) = now.checked_add(Duration::from_secs(1 << 40)) else {
        return;
    };
    let key = queue.insert(far, 1);
    queue.insert(far, 2);
    let next = queue.next_deadline().expect("two timers");
    assert!(next > now + Duration::from_secs(90 * 365 * 86_400));
    assert_eq!(queue.pop_expired(far), None);
    queue.insert(now, 0);
    assert_eq!(expire(&mut queue, far), [0]);
    assert_eq!((queue.cancel(key), queue.len()), (Some(1), 1));
}

#[test]
fn stale_keys_do_no_harm() {
    let mut queue = TimerQueue::new();
    let at = Instant::now() + MS;
    let fired = queue.insert(at, 1);
    assert_eq!(expire(&mut queue, at), [1]);
    let cancelled = queue.insert(at, 2);
    assert_eq!(queue.cancel(cancelled), Some(2));
    let current = queue.insert(at, 3);
    assert_eq!((fired.slot, cancelled.slot), (current.slot, current.slot));
    assert_eq!((queue.cancel(fired), queue.cancel(cancelled)), (None, None));
    assert_eq!((queue.cancel(current), queue.cancel(current)), (Some(3), None));
}

#[test]
fn a_slot_that_is_worn_out_is_not_used_again() {
    let mut queue = TimerQueue::new();
    let at = Instant::now() + MS;
    let first = queue.insert(at, 1);
    queue.cancel(first);
    queue.generations[0] = WORN_OUT - 2;
    let last = queue.insert(at, 2);
    assert_eq!(
        (last.slot, queue.cancel(last), queue.cancel(last)),
        (0, Some(2), None)
    );
    let elsewhere = queue.insert(at, 3);
    assert_ne!(elsewhere.slot, 0);
    assert_eq!((queue.cancel(last), queue.cancel(first)), (None, None));
    // Not even after its place was given back.
    let _keys: Vec<TimerKey> = (0..2 * SMALL).map(|_| queue.insert(at, 4)).collect();
    assert_eq!(expire(&mut queue, at).len(), 2 * SMALL + 1);
    assert!(queue.values.is_empty());
    assert_ne!(queue.insert(at, 5).slot, 0);
    assert_eq!(queue.cancel(last), None);
}

#[test]
fn the_next_one_is_known() {
    let mut queue = TimerQueue::new();
    let now = Instant::now();
    let later = queue.insert(now + 2 * MS, 'b');
    assert!(queue.is_next(later));
    // In the past, long before the queue was made.
    let overdue = queue.insert(now.checked_sub(MS).expect("the clock has run for a while"), 'a');
    assert!(queue.is_next(overdue) && !queue.is_next(later));
    let equal = queue.insert(now + 2 * MS, 'c');
    assert_eq!(expire(&mut queue, now), ['a']);
    assert!(!queue.is_next(overdue) && queue.is_next(later) && !queue.is_next(equal));
}

#[test]
fn keys_survive_as_numbers() {
    let mut queue = TimerQueue::new();
    let keys: Vec<TimerKey> = (0..10).map(|nth| queue.insert(Instant::now(), nth)).collect();
    for (nth, key) in keys.into_iter().enumerate() {
        assert_eq!(TimerKey::from_bits(key.to_bits()), key);
        assert_eq!(queue.cancel(TimerKey::from_bits(key.to_bits())), Some(nth as i32));
    }
    assert_eq!(queue.cancel(TimerKey::from_bits(0)), None);
    assert_eq!(queue.cancel(TimerKey::from_bits(u64::MAX)), None);
}

#[test]
fn values_are_dropped_with_the_queue() {
    let value = std::rc::Rc::new(());
    let mut queue = TimerQueue::new();
    let key = queue.insert(Instant::now(), value.clone());
    queue.insert(Instant::now(), value.clone());
    drop(queue.cancel(key));
    assert_eq!(std::rc::Rc::strong_count(&value), 2);
    drop(queue);
    assert_eq!(std::rc::Rc::strong_count(&value), 1);
}

#[test]
fn a_model_agrees() {
    let seed = std::env::var("ROVING_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    for run in 0..20 {
        let seed = seed + run;
        agree(seed, 2000);
    }
}

/// Compares with an ordered map under random operations, and names the seed where they differ.
fn agree(seed: u64, steps: u64) {
    struct Report(u64);
    impl Drop for Report {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("ROVING_SEED={} fails", self.0);
            }
        }
    }
    let _report = Report(seed);
    let mut random = Random(seed);
    let start = Instant::now();
    let mut queue = TimerQueue::with_origin(start);
    let mut model: BTreeMap<(Instant, u64), TimerKey> = BTreeMap::new();
    let mut gone: Vec<TimerKey> = Vec::new();
    let mut now = start;
    // Few different deadlines make many equal ones.
    let spread = 1 + random.below(1000);
    // Some runs grow, some shrink.
    let inserts = 3 + random.below(4);
    for step in 0..steps {
        match random.below(10) {
            kind if kind < inserts => {
                let at = now + Duration::from_nanos(random.below(spread));
                model.insert((at, step), queue.insert(at, step));
            }
            7 | 8 => {
                let pick = (now + Duration::from_nanos(random.below(spread)), 0);
                let found = model.range(pick..).next().or(model.last_key_value());
                if let Some((&(at, value), &key)) = found {
                    model.remove(&(at, value));
                    assert_eq!(queue.cancel(key), Some(value));
                    gone.push(key);
                }
            }
            9 => {
                now += Duration::from_nanos(random.below(spread / 4 + 1));
                while let Some((at, value)) = queue.pop_expired(now) {
                    let (expected, key) = model.pop_first().expect("the model has it");
                    assert_eq!((at, value), expected);
                    gone.push(key);
                }
                assert!(model.first_key_value().is_none_or(|(&(at, _), _)| at > now));
            }
            _ => {
                let stale = gone.get(random.below(gone.len() as u64 + 1) as usize);
                assert_eq!(stale.and_then(|&key| queue.cancel(key)), None);
            }
        }
        assert_eq!(queue.len(), model.len());
        assert_eq!(
            queue.next_deadline(),
            model.first_key_value().map(|(&(at, _), _)| at)
        );
    }
    queue.heap.check();
    let rest: Vec<u64> = model.into_keys().map(|(_, value)| value).collect();
    assert_eq!(expire(&mut queue, now + Duration::from_nanos(spread)), rest);
}

/// How many timers the tables have room for.
fn capacity<T>(queue: &TimerQueue<T>) -> usize {
    queue.values.capacity().max(queue.heap.capacity())
}

#[test]
fn memory_comes_back_after_a_peak() {
    let mut queue = TimerQueue::new();
    let now = Instant::now();
    let mut random = Random(1);
    let lasting: Vec<TimerKey> = (0..10).map(|_| queue.insert(now + 3_600_000 * MS, 0)).collect();
    for round in 0..3 {
        let mut keys: Vec<TimerKey> = (0..50_000)
            .map(|nth| queue.insert(now + random.below(1000) as u32 * MS, nth))
            .collect();
        assert!(capacity(&queue) >= 50_000);
        if round == 1 {
            keys.drain(..)
                .for_each(|key| assert!(queue.cancel(key).is_some()));
        } else {
            assert_eq!(expire(&mut queue, now + 1000 * MS).len(), 50_000);
        }
        // At the very end it may take some more timers to notice.
        for _ in 0..50_000 / 4 {
            let key = queue.insert(now, 0);
            queue.cancel(key);
        }
        assert!(capacity(&queue) <= 4 * SMALL, "{}", capacity(&queue));
        queue.heap.check();
        // Keys to entries that are no more.
        assert!(keys.into_iter().all(|key| queue.cancel(key).is_none()));
    }
    assert!(lasting.into_iter().all(|key| queue.cancel(key).is_some()));
}

#[test]
fn a_timer_in_a_high_place_delays_that_only_while_it_lives() {
    let mut queue = TimerQueue::new();
    let now = Instant::now();
    let keys: Vec<TimerKey> = (0..50_000).map(|nth| queue.insert(now + MS, nth)).collect();
    for &key in &keys[..keys.len() - 1] {
        queue.cancel(key);
    }
    assert!(capacity(&queue) >= 50_000);
    // Meanwhile others come and go, so that there is always one, and end up in low places.
    let mut slot = u32::MAX;
    let mut churn = |queue: &mut TimerQueue<i32>| {
        let mut previous = None;
        for nth in 0..50_000 / 4 {
            let key = queue.insert(now + MS, nth);
            slot = key.slot;
            previous.replace(key).and_then(|key| queue.cancel(key));
        }
        previous.and_then(|key| queue.cancel(key));
        slot as usize
    };
    churn(&mut queue);
    assert!(churn(&mut queue) < SMALL);
    assert_eq!(queue.cancel(keys[keys.len() - 1]), Some(49_999));
    churn(&mut queue);
    assert!(capacity(&queue) <= 4 * SMALL, "{}", capacity(&queue));
}

#[test]
fn a_million_timers_are_inserted_and_cancelled() {
    let mut queue = TimerQueue::new();
    let now = Instant::now();
    let count = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    let mut random = Random(1);
    let mut keys: Vec<TimerKey> = (0..count)
        .map(|nth| queue.insert(now + Duration::from_nanos(random.below(1 << 30)), nth))
        .collect();
    assert_eq!(queue.len(), count as usize);
    while !keys.is_empty() {
        let key = keys.swap_remove(random.below(keys.len() as u64) as usize);
        assert!(queue.cancel(key).is_some());
    }
    assert!(queue.is_empty() && capacity(&queue) <= 4 * SMALL);
}
