//! Stacks that no pool keeps, and that have their memory still.

use super::*;
use crate::stack::warm::room;

/// Takes that many stacks, writes on each and gives them back.
fn wave(pool: &mut Pool, count: usize) {
    let stacks = take_many(pool, SMALL, count);
    for stack in stacks {
        poke(stack.base() - 1, 7);
        pool.give(stack);
    }
}

#[test]
fn waves_keep_their_memory() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    wave(&mut pool, 5000);
    let before = slabs.stats();
    assert!(before.cached >= 5000 && slabs.keep_warm());
    for _ in 0..5 {
        // Needed in every epoch, none are trimmed but those fetched in vain.
        slabs.end_epoch();
        slabs.trim();
        let stacks = take_many(&mut pool, SMALL, 5000);
        assert!(stacks.iter().all(|stack| peek(stack.base() - 1) == 7));
        stacks.into_iter().for_each(|stack| pool.give(stack));
    }
    assert_eq!(slabs.stats().slabs, before.slabs);
}

#[test]
fn what_one_worker_left_another_takes() {
    let slabs = slabs();
    let (mut first, mut second) = (Pool::new(&slabs), Pool::new(&slabs));
    wave(&mut first, 3000);
    let mapped = slabs.stats().mapped_bytes;
    let stacks = take_many(&mut second, SMALL, 1900);
    assert!(stacks.iter().all(|stack| peek(stack.base() - 1) == 7));
    assert_eq!(slabs.stats().mapped_bytes, mapped);
}

#[test]
fn what_is_not_needed_goes_little_by_little() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    wave(&mut pool, 9000);
    let kept = |pool: &Pool| slabs.stats().cached - pool.cached();
    let mut left = vec![kept(&pool)];
    // In the epoch that begins with the wave nothing is known yet.
    assert!(slabs.end_epoch() && !slabs.trim() && kept(&pool) == left[0]);
    while slabs.end_epoch() {
        while slabs.trim() {}
        left.push(kept(&pool));
    }
    assert!((20..60).contains(&left.len()), "{left:?}");
    for pair in left.windows(2) {
        assert_eq!(pair[0] - pair[1], (pair[0] / 8).max(pair[0].min(64)), "{left:?}");
    }
    assert_eq!(left.last(), Some(&0));
    assert!(!slabs.keep_warm());
}

#[test]
fn a_slice_of_trimming_is_short() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    wave(&mut pool, 9000);
    slabs.end_epoch();
    slabs.end_epoch();
    let before = slabs.stats().cached;
    assert!(slabs.trim());
    assert_eq!(before - slabs.stats().cached, 128);
}

#[test]
fn what_is_taken_in_the_epoch_is_not_trimmed_in_it() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    wave(&mut pool, 3000);
    slabs.end_epoch();
    slabs.end_epoch();
    let _stacks = take_many(&mut pool, SMALL, 3000);
    let before = slabs.stats();
    while slabs.trim() {}
    assert!(before.cached - slabs.stats().cached <= 32);
}

#[test]
fn large_stacks_are_kept_in_smaller_numbers() {
    for class in StackClass::all() {
        assert!(
            room(class) * class.size() <= 64 << 30 && room(class) >= 8192,
            "{class:?}"
        );
    }
}

#[test]
fn guards_that_take_mappings_are_not_kept_for_later() {
    let slabs = guarded_by(GuardKind::Mprotect);
    let mut pool = Pool::new(&slabs);
    wave(&mut pool, 2000);
    assert_eq!(slabs.stats().cached, pool.cached());
}

#[test]
fn what_is_kept_gives_way_to_what_is_needed() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    wave(&mut pool, 2000);
    assert!(slabs.keep_warm());
    // No more address space at first, as under `ulimit -v`: every size is refused.
    let large = StackClass::for_size(StackClass::MAX_SIZE).expect("the largest");
    sys::fault::plan(sys::fault::Call::Map, 0, refusals(large), libc::ENOMEM);
    let stack = pool.take(large);
    sys::fault::clear();
    assert!(stack.is_ok() && !slabs.keep_warm());
}

/// How often a first slab of a class is asked for before that is given up.
fn refusals(class: StackClass) -> usize {
    let mut len = crate::stack::slab::slab_size(class, 0);
    let mut refusals = 1;
    while len > crate::stack::slab::min_slab_size(class) {
        len /= 2;
        refusals += 1;
    }
    refusals
}

#[test]
fn the_end_of_a_runtime_unmaps_what_is_kept() {
    isolated(module_path!(), "the_end_of_a_runtime_unmaps_what_is_kept", || {
        let slabs = slabs();
        let mut pool = Pool::new(&slabs);
        let stacks = take_many(&mut pool, SMALL, 3000);
        let spans: Vec<_> = stacks.iter().map(span).collect();
        let mut stacks = stacks.into_iter();
        // One that does not come back holds its slab, not the memory of its neighbours.
        let held = stacks.next().expect("there are 3,000");
        for stack in stacks {
            poke(stack.base() - 1, 7);
            pool.give(stack);
        }
        assert!(slabs.keep_warm());
        drop((pool, slabs));
        let resident: Vec<_> = spans.into_iter().filter_map(resident_pages).collect();
        assert!(!resident.is_empty() && resident.len() < 100, "{}", resident.len());
        assert_eq!(resident.iter().sum::<usize>(), 0);
        poke(held.base() - 1, 7);
    });
}
