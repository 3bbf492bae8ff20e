//! What stacks cost, read from the kernel's books.

use super::*;

#[test]
fn guards_survive_a_stack_that_goes_home() {
    for kind in guard_kinds() {
        let slabs = guarded_by(kind);
        let mut pool = Pool::new(&slabs);
        let stacks = take_many(&mut pool, SMALL, 50);
        let spans: Vec<_> = stacks
            .iter()
            .map(|stack| (span(stack), stack.usable_limit()))
            .collect();
        for stack in &stacks {
            poke(stack.base() - 1, 7);
            poke(stack.usable_limit(), 7);
        }
        assert_eq!(resident_pages(spans[1].0.clone()), Some(2));
        // Side by side, they are discarded as one range, guards and all.
        stacks.into_iter().for_each(|stack| pool.give(stack));
        drop(pool);
        let mut pool = Pool::new(&slabs);
        let again = take_many(&mut pool, SMALL, 50);
        assert_eq!(slabs.stats().guard, kind);
        for stack in &again {
            assert!(
                !is_readable(stack.limit()) && !is_readable(stack.usable_limit() - 1),
                "{kind:?}"
            );
            assert_eq!((peek(stack.base() - 1), peek(stack.usable_limit())), (0, 0));
        }
        assert!(
            again
                .iter()
                .any(|stack| spans.iter().any(|(old, _)| *old == span(stack)))
        );
    }
}

#[test]
fn a_stack_at_home_has_no_memory() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    let stack = pool.take(SMALL).expect("room");
    let _neighbour = pool.take(SMALL).expect("room");
    let span = span(&stack);
    (0..10).for_each(|page| poke(stack.base() - 1 - page * sys::page_size(), 7));
    assert_eq!(resident_pages(span.clone()), Some(10));
    drop(stack);
    assert_eq!(resident_pages(span), Some(0));
}

fn status(key: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text
        .lines()
        .find(|line| line.starts_with(key))
        .expect("a known key");
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps")
        .expect("/proc")
        .lines()
        .count()
}

/// Takes many stacks, touches the top page of each, and sends them home again.
fn cost(count: usize) {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    let (rss, tables, maps) = (status("VmRSS"), status("VmPTE"), mappings());
    let mut stacks = Vec::with_capacity(count);
    let start = std::time::Instant::now();
    for _ in 0..count {
        let stack = pool.take(SMALL).expect("there is room");
        poke(stack.base() - 1, 1);
        stacks.push(stack);
    }
    let taken = start.elapsed();
    let per_stack = |now: usize, before: usize| (now - before) as f64 / count as f64;
    let (rss_each, tables_each) = (
        per_stack(status("VmRSS"), rss),
        per_stack(status("VmPTE"), tables),
    );
    let more_maps = mappings() - maps;
    let start = std::time::Instant::now();
    stacks.into_iter().for_each(|stack| pool.give(stack));
    let given = start.elapsed();
    let kept = slabs.stats().cached;
    let start = std::time::Instant::now();
    let_go(&slabs);
    let trimmed = start.elapsed();
    eprintln!(
        "{count} stacks: {rss_each:.3} KiB + {tables_each:.3} KiB of page tables each, {more_maps} mappings; \
         {:?} to take and touch, {:?} to give, each; {kept} kept, {trimmed:?} to trim; afterwards {} KiB more memory, {} KiB more tables; {:?}",
        taken / count as u32,
        given / count as u32,
        status("VmRSS").saturating_sub(rss),
        status("VmPTE").saturating_sub(tables),
        slabs.stats(),
    );
    if slabs.stats().guard == GuardKind::Lightweight {
        assert!(more_maps < 65_530 / 10, "{more_maps}");
    }
    // The page itself, and the handle in this test's list.
    assert!((4.0..4.2).contains(&rss_each), "{rss_each}");
    assert!(tables_each < 1.1, "{tables_each}");
    // The pool's stacks, the list, and a spare slab's tables.
    assert!(status("VmRSS") - rss < 8 << 10, "{}", status("VmRSS") - rss);
    assert!(status("VmPTE") - tables < 4 << 10, "{}", status("VmPTE") - tables);
}

#[test]
#[cfg_attr(feature = "asan", ignore = "measures the sanitizer's memory too")]
fn a_hundred_thousand_stacks_cost_a_page_each() {
    if sys::best_guard() == GuardKind::Lightweight {
        isolated(
            module_path!(),
            "a_hundred_thousand_stacks_cost_a_page_each",
            || cost(100_000),
        );
    }
}

#[test]
#[ignore = "takes 5 GiB of memory and some seconds"]
fn a_million_stacks_cost_a_page_each() {
    if sys::best_guard() == GuardKind::Lightweight {
        isolated(module_path!(), "a_million_stacks_cost_a_page_each", || {
            cost(1_000_000);
        });
    }
}
