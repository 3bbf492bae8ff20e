//! Random takes and gives: no two live stacks share an address, and nobody writes on another's.

use super::*;
use crate::loom::sync::Mutex;
use std::collections::BTreeMap;

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

/// `ROVING_SEED`, or a number of the test's own.
fn seed(default: u64) -> u64 {
    std::env::var("ROVING_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(default)
}

/// Says which seed failed.
struct Report(u64);

impl Drop for Report {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("ROVING_SEED={} fails", self.0);
        }
    }
}

fn mark(stack: &Stack, value: u8) {
    for at in [
        stack.base() - 1,
        stack.usable_limit(),
        stack.limit() + stack.class().size() - 1,
    ] {
        poke(at, value);
    }
}

fn is_marked(stack: &Stack, value: u8) -> bool {
    let ends = [
        stack.base() - 1,
        stack.usable_limit(),
        stack.limit() + stack.class().size() - 1,
    ];
    ends.into_iter().all(|at| peek(at) == value)
}

#[test]
fn live_stacks_never_overlap() {
    for kind in guard_kinds() {
        let seed = seed(1);
        let _report = Report(seed);
        let mut random = Random(seed);
        let slabs = slabs_with(SlabsConfig {
            guard: Some(kind),
            embedder_bytes: 64,
            ..Default::default()
        });
        let mut pools = [Pool::new(&slabs), Pool::new(&slabs)];
        let classes: Vec<StackClass> = StackClass::all().take(4).collect();
        let mut live: BTreeMap<usize, (Stack, u8)> = BTreeMap::new();
        let mut target = 500;
        for step in 0..20_000 {
            if step % 2000 == 0 {
                target = random.below(1500) as usize;
            }
            let pool = &mut pools[random.below(2) as usize];
            // Drifts towards the target, so that pools and slabs fill up and empty again.
            if random.below(10) < if live.len() < target { 8 } else { 2 } {
                let stack = pool.take(classes[random.below(4) as usize]).expect("room");
                let at = span(&stack);
                let below = live.range(..at.end).next_back();
                assert!(below.is_none_or(|(_, (below, _))| span(below).end <= at.start));
                let value = random.next() as u8;
                mark(&stack, value);
                live.insert(at.start, (stack, value));
            } else {
                let nth = live
                    .range(random.next() as usize..)
                    .next()
                    .or(live.first_key_value());
                let Some((&key, _)) = nth else { continue };
                let (stack, value) = live.remove(&key).expect("found above");
                assert!(is_marked(&stack, value));
                match random.below(50) {
                    0 => drop(stack),
                    1 => {
                        pool.give(stack);
                        pool.decay();
                    }
                    2 => {
                        pool.give(stack);
                        *pool = Pool::new(&slabs);
                    }
                    3 => {
                        pool.give(stack);
                        slabs.end_epoch();
                        slabs.trim();
                    }
                    _ => pool.give(stack),
                }
            }
        }
        let stats = slabs.stats();
        assert_eq!(stats.live, live.len());
        assert!(stats.cached >= pools[0].cached() + pools[1].cached());
        drop((live, pools));
        let_go(&slabs);
        assert_eq!((slabs.stats().live, slabs.stats().cached), (0, 0));
    }
}

#[test]
fn stacks_travel_between_threads() {
    let seed = seed(2);
    let _report = Report(seed);
    let slabs = slabs();
    const THREADS: usize = 3;
    let boxes: [Mutex<Vec<(Stack, u8)>>; THREADS] = Default::default();
    std::thread::scope(|scope| {
        for me in 0..THREADS {
            let (slabs, boxes) = (&slabs, &boxes);
            scope.spawn(move || {
                let mut random = Random(seed + me as u64);
                let mut pool = Pool::new(slabs);
                let mut held = Vec::new();
                for _ in 0..5_000 {
                    let value = random.next() as u8;
                    match random.below(4) {
                        0 | 1 => {
                            let stack = pool.take(SMALL).expect("room");
                            mark(&stack, value);
                            held.push((stack, value));
                        }
                        2 if !held.is_empty() => {
                            let index = random.below(held.len() as u64) as usize;
                            let to = random.below(THREADS as u64) as usize;
                            boxes[to].lock().push(held.swap_remove(index));
                        }
                        _ => held.extend(boxes[me].lock().pop()),
                    }
                    if held.len() > 200 {
                        for (stack, value) in held.drain(..150) {
                            assert!(is_marked(&stack, value));
                            pool.give(stack);
                        }
                    }
                }
            });
        }
    });
    drop(boxes);
    assert_eq!(
        (slabs.stats().live, slabs.stats().cached, slabs.stats().slabs),
        (0, 0, 1)
    );
}
