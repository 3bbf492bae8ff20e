//! Who keeps which stacks, for how long.

use super::*;
use crate::context::{Context, Suspender, Switched};
use crate::stack::pool::Watermarks;
use crate::stack::registry::find_guard;

#[test]
fn the_warmest_stack_is_reused_as_it_is() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    let (first, second) = (pool.take(SMALL).expect("room"), pool.take(SMALL).expect("room"));
    let (first_at, second_at) = (first.base(), second.base());
    poke(first_at - 1, 7);
    pool.give(second);
    pool.give(first);
    let again = pool.take(SMALL).expect("room");
    assert_eq!((again.base(), peek(again.base() - 1)), (first_at, 7));
    assert_eq!(pool.take(SMALL).expect("room").base(), second_at);
}

#[test]
fn stacks_are_fetched_in_growing_batches() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    let mut stacks = Vec::new();
    let mut batches = Vec::new();
    while stacks.len() < 127 {
        if pool.cached() == 0 {
            stacks.push(pool.take(SMALL).expect("room"));
            batches.push(1 + pool.cached());
        } else {
            stacks.push(pool.take(SMALL).expect("room"));
        }
    }
    // Slabs have 16, 32, 64, ... slots, and a batch comes from one slab.
    assert_eq!(batches, [1, 2, 4, 8, 1, 32, 32, 32, 32]);
    let stats = slabs.stats();
    assert_eq!((stats.live, stats.cached, stats.free), (127, pool.cached(), 0));
}

#[test]
fn a_pool_above_its_high_watermark_sends_the_coldest_home() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    let Watermarks { low, high } = Watermarks::of(SMALL);
    assert_eq!((low, high), (64, 1024));
    // The first slab stays mapped for the sake of the stacks in it that do not come back.
    let held = [pool.take(SMALL), pool.take(SMALL)];
    let stacks = take_many(&mut pool, SMALL, high + 1);
    let spare = pool.cached();
    let (coldest, warmest) = (stacks[0].base(), stacks[high].base());
    let mut fullest = 0;
    for stack in stacks {
        poke(stack.base() - 1, 7);
        pool.give(stack);
        fullest = fullest.max(pool.cached());
    }
    assert_eq!(fullest, high);
    // The stacks that were fetched and not taken count as well.
    assert_eq!(pool.cached(), (high + 1 + spare - 1) % low + high - low + 1);
    let stats = slabs.stats();
    assert_eq!((stats.live, stats.cached), (held.len(), pool.cached() + low));
    assert_eq!((peek(coldest - 1), peek(warmest - 1)), (7, 7));
    let_go(&slabs);
    // Of those that were given up, some have been unmapped with their slab.
    let stats = slabs.stats();
    assert_eq!((stats.live, stats.cached), (held.len(), pool.cached()));
    assert!((1..=low).contains(&stats.free), "{stats:?}");
    assert_eq!((peek(coldest - 1), peek(warmest - 1)), (0, 7));
    assert_eq!(pool.take(SMALL).expect("room").base(), warmest);
}

#[test]
fn large_classes_are_kept_in_smaller_numbers() {
    for class in StackClass::all() {
        let Watermarks { low, high } = Watermarks::of(class);
        assert!(
            high * class.size() <= 512 << 20 && low >= 4 && high >= 64,
            "{class:?}"
        );
    }
}

#[test]
fn stacks_that_nobody_needs_go_home_slowly() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    let stacks = take_many(&mut pool, SMALL, 600);
    stacks.into_iter().for_each(|stack| pool.give(stack));
    let peak = pool.cached();
    // One fiber at a time needs one stack.
    let mut sizes = vec![peak];
    for _ in 0..100_000 {
        let stack = pool.take(SMALL).expect("room");
        pool.give(stack);
        if sizes.last() != Some(&pool.cached()) {
            sizes.push(pool.cached());
        }
    }
    assert!(
        sizes.is_sorted_by(|larger, smaller| larger > smaller),
        "{sizes:?}"
    );
    assert!(sizes.windows(2).all(|pair| pair[0] - pair[1] <= 64), "{sizes:?}");
    assert_eq!(pool.cached(), 64);
}

#[test]
fn waves_of_fibers_keep_their_stacks() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    for _ in 0..50 {
        let stacks = take_many(&mut pool, SMALL, 700);
        stacks.into_iter().for_each(|stack| pool.give(stack));
        // Only what was fetched beyond the 700 may have gone home.
        assert!(slabs.stats().free < 32 && pool.cached() >= 700);
    }
}

#[test]
fn an_idle_worker_can_let_go() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    let stacks = take_many(&mut pool, SMALL, 1000);
    stacks.into_iter().for_each(|stack| pool.give(stack));
    let rounds = (0..100).take_while(|_| pool.decay()).count();
    assert!((10..20).contains(&rounds), "{rounds}");
    assert_eq!(pool.cached(), 64);
    assert!(!pool.decay());
}

#[test]
fn a_pool_that_is_dropped_sends_everything_home() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    for class in StackClass::all() {
        let stacks = take_many(&mut pool, class, 10);
        stacks.into_iter().for_each(|stack| pool.give(stack));
    }
    drop(pool);
    let stats = slabs.stats();
    assert_eq!((stats.live, stats.cached), (0, 0));
    assert!(stats.free >= 10 * StackClass::COUNT);
}

#[test]
fn a_dropped_stack_goes_home() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    let stack = pool.take(SMALL).expect("room");
    let at = stack.base();
    poke(at - 1, 7);
    drop(stack);
    assert_eq!(slabs.stats().free, 1);
    let again = pool.take(SMALL).expect("room");
    assert_eq!((again.base(), peek(at - 1)), (at, 0));
}

#[test]
fn stacks_may_come_back_to_any_pool() {
    let (ours, theirs) = (slabs(), slabs());
    let (mut first, mut second, mut other) = (Pool::new(&ours), Pool::new(&ours), Pool::new(&theirs));
    let stack = first.take(SMALL).expect("room");
    let at = stack.base();
    second.give(stack);
    assert_eq!(second.take(SMALL).expect("room").base(), at);
    let foreign = other.take(SMALL).expect("room");
    first.give(foreign);
    assert_eq!(
        (first.cached(), theirs.stats().free, theirs.stats().live),
        (0, 1, 0)
    );
}

#[test]
fn idle_slabs_are_unmapped_but_one() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    let mut stacks = take_many(&mut pool, SMALL, 400);
    let full = slabs.stats();
    assert!(full.slabs >= 5, "{full:?}");
    let last = stacks.pop();
    stacks.into_iter().for_each(|stack| pool.give(stack));
    drop(pool);
    let stats = slabs.stats();
    // The one with the last stack in use, and a spare one.
    assert_eq!((stats.live, stats.slabs), (1, 2));
    drop(last);
    assert_eq!((slabs.stats().live, slabs.stats().slabs), (0, 1));
    let mut pool = Pool::new(&slabs);
    let stacks = take_many(&mut pool, SMALL, 400);
    assert_eq!(slabs.stats().live, 400);
    drop(stacks);
}

#[test]
fn a_slab_that_is_used_again_is_no_longer_spare() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    // Slabs of 16, 32 and 64 slots.
    let first = take_many(&mut pool, SMALL, 16);
    let second = take_many(&mut pool, SMALL, 32);
    assert_eq!((pool.cached(), slabs.stats().slabs), (0, 2));
    drop(second);
    assert_eq!(slabs.stats().slabs, 2);
    let second = take_many(&mut pool, SMALL, 32);
    let third = take_many(&mut pool, SMALL, 64);
    assert_eq!((pool.cached(), slabs.stats().slabs), (0, 3));
    drop(third);
    assert_eq!(slabs.stats().slabs, 3, "it is the only idle one");
    drop(second);
    assert_eq!(slabs.stats().slabs, 2);
    drop(first);
    assert_eq!(slabs.stats().slabs, 1);
}

#[test]
fn a_small_program_maps_little() {
    let slabs = slabs();
    assert_eq!(slabs.stats().mapped_bytes, 0);
    let mut pool = Pool::new(&slabs);
    let _stack = pool.take(SMALL).expect("room");
    assert!(slabs.stats().mapped_bytes <= 10 << 20);
}

#[test]
fn everything_is_unmapped_at_the_end() {
    isolated(module_path!(), "everything_is_unmapped_at_the_end", || {
        let slabs = slabs();
        let mut pool = Pool::new(&slabs);
        let stacks = take_many(&mut pool, SMALL, 100);
        let late = pool.take(SMALL).expect("room");
        let spans: Vec<_> = stacks.iter().map(span).collect();
        let late_span = span(&late);
        assert!(find_guard(late_span.start).is_some());
        drop((stacks, pool, slabs));
        // The slab of the one stack that is still out stays, no other.
        poke(late.base() - 1, 7);
        let mapped = spans
            .iter()
            .filter(|span| resident_pages((*span).clone()).is_some())
            .count();
        assert!(mapped < 100, "{mapped}");
        drop(late);
        for span in spans.into_iter().chain([late_span]) {
            assert_eq!(find_guard(span.start), None);
            assert_eq!(resident_pages(span), None);
        }
    });
}

#[test]
fn an_abandoned_stack_is_never_reused() {
    // In a child, since it leaks.
    isolated(module_path!(), "an_abandoned_stack_is_never_reused", || {
        let slabs = slabs();
        let mut pool = Pool::new(&slabs);
        let stacks = take_many(&mut pool, SMALL, 2);
        let held: Vec<_> = stacks.iter().map(span).collect();
        let mut locals = Vec::new();
        for stack in stacks {
            let mut context = Context::new(stack, |suspender: Suspender<usize>| {
                let local = 7_u8;
                // SAFETY: on the stack of this context, in its body.
                unsafe { suspender.suspend((&raw const local).expose_provenance()) };
            });
            let Switched::Suspended(at) = context.resume() else {
                panic!("it suspends first")
            };
            locals.push(at);
            context.leak();
            slabs.note_leaked();
        }
        assert_eq!((slabs.stats().leaked, slabs.stats().live), (2, 2));
        let overlaps = |stacks: &[Stack]| {
            stacks.iter().any(|stack| {
                held.iter()
                    .any(|held| held.start < span(stack).end && span(stack).start < held.end)
            })
        };
        let stacks = take_many(&mut pool, SMALL, 2000);
        assert!(!overlaps(&stacks));
        drop((stacks, pool, slabs));
        let successor = super::slabs();
        let mut pool = Pool::new(&successor);
        let stacks = take_many(&mut pool, SMALL, 2000);
        assert!(!overlaps(&stacks));
        assert!(locals.into_iter().all(|at| peek(at) == 7));
    });
}
