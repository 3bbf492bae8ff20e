//! Where things are in a slot.

use super::*;
use crate::stack::StackError;

#[test]
fn sizes_are_rounded_up_to_powers_of_two() {
    let kib = |bytes: usize| StackClass::for_size(bytes).map(|class| class.size() >> 10);
    for (bytes, size) in [
        (1, 128),
        (128 << 10, 128),
        ((128 << 10) + 1, 256),
        (300_000, 512),
        (512 << 10, 512),
        ((4 << 20) + 1, 8192),
        (8 << 20, 8192),
    ] {
        assert_eq!(kib(bytes), Ok(size), "{bytes}");
    }
    assert_eq!(StackClass::default().size(), 512 << 10);
    assert_eq!(
        StackClass::all().last().map(StackClass::size),
        Some(StackClass::MAX_SIZE)
    );
    assert!(
        StackClass::all()
            .enumerate()
            .all(|(index, class)| class.index() == index)
    );
}

#[test]
fn absurd_sizes_are_refused_with_the_range() {
    for bytes in [0, (8 << 20) + 1, usize::MAX] {
        let error = StackClass::for_size(bytes).expect_err("absurd");
        assert_eq!(error, StackError::Size { requested: bytes });
        let text = error.to_string();
        assert!(
            text.contains(&bytes.to_string()) && text.contains("8388608"),
            "{text}"
        );
    }
}

#[test]
fn a_guard_is_whole_pages_and_a_small_part() {
    for page in [4096, 16384, 65536] {
        for class in StackClass::all() {
            let guard = class.guard_len(page);
            assert!(
                guard.is_multiple_of(page) && guard >= page && guard <= 65536,
                "{class:?} {page}"
            );
            // What the contract of `StackMemory` asks for, with room for a signal frame or two.
            assert!(
                class.size() - guard - StackError::MAX_EMBEDDER_AREA - 1024 >= 16384,
                "{class:?} {page}"
            );
        }
    }
}

#[test]
fn the_parts_of_a_stack_follow_one_another() {
    for embedder_bytes in [0, 1, 17, 18_432, StackError::MAX_EMBEDDER_AREA] {
        let slabs = slabs_with(SlabsConfig {
            embedder_bytes,
            ..SlabsConfig::default()
        });
        let mut pool = Pool::new(&slabs);
        for class in StackClass::all() {
            for stack in take_many(&mut pool, class, 20) {
                let span = span(&stack);
                assert!(stack.base().is_multiple_of(16) && span.start.is_multiple_of(sys::page_size()));
                assert_eq!(stack.class(), class);
                assert!(span.start < stack.usable_limit() && stack.usable_limit() + 4096 <= stack.base());
                let area = stack.embedder_area();
                assert_eq!(area.cast::<u8>().addr().get(), stack.base());
                assert_eq!(area.len(), embedder_bytes);
                assert!(stack.base() + embedder_bytes <= span.end);
                // The colour and the rounding waste less than this.
                assert!(span.end - stack.base() - embedder_bytes < 1024);
                poke(stack.usable_limit(), 1);
                poke(span.end - 1, 1);
                assert!(!is_readable(stack.usable_limit() - 1) && !is_readable(span.start));
                pool.give(stack);
            }
        }
    }
}

#[test]
fn too_large_an_embedder_area_is_refused() {
    let embedder_bytes = StackError::MAX_EMBEDDER_AREA + 1;
    let error = Slabs::new(&SlabsConfig {
        embedder_bytes,
        ..SlabsConfig::default()
    })
    .expect_err("too large");
    assert_eq!(
        error,
        StackError::EmbedderArea {
            requested: embedder_bytes
        }
    );
    assert!(
        error.to_string().contains("32769") && error.to_string().contains("32768"),
        "{error}"
    );
}

#[test]
fn neighbouring_bases_do_not_share_cache_sets() {
    for (embedder_bytes, colours) in [(0, 16), (18_432, 8)] {
        let slabs = slabs_with(SlabsConfig {
            embedder_bytes,
            ..SlabsConfig::default()
        });
        let mut pool = Pool::new(&slabs);
        let stacks = take_many(&mut pool, SMALL, 32);
        let mut lines: Vec<usize> = stacks.iter().map(|stack| stack.base() % 4096 / 64).collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), colours);
    }
}

#[test]
fn a_boundary_in_mid_page_stays_in_its_page() {
    let slabs = slabs_with(SlabsConfig {
        embedder_bytes: 18_432 - 512,
        ..SlabsConfig::default()
    });
    let mut pool = Pool::new(&slabs);
    for stack in take_many(&mut pool, SMALL, 32) {
        let below = stack.base() % 4096;
        assert!((2048..=2560).contains(&below), "{below}");
    }
}

#[test]
fn a_fiber_runs_on_it() {
    use crate::context::{Context, Suspender, Switched};
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    let stack = pool.take(SMALL).expect("there is room");
    let (span, base) = (span(&stack), stack.base());
    let mut context = Context::new(stack, move |suspender: Suspender<usize>| {
        let here = 0_u8;
        // SAFETY: on the stack of this context, in its body.
        unsafe { suspender.suspend((&raw const here).addr()) };
    });
    let Switched::Suspended(address) = context.resume() else {
        panic!("it suspends first")
    };
    // AddressSanitizer moves locals to the heap.
    assert!(cfg!(feature = "asan") || span.contains(&address) && address < base && base - address < 4096);
    assert_eq!(context.resume(), Switched::Finished);
    pool.give(context.into_stack());
    assert_eq!(pool.cached(), 1);
}

#[test]
fn a_finished_fiber_leaves_nothing_behind() {
    use crate::context::{Context, Suspender, Switched};
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    for round in 0..10 {
        let stack = pool.take(SMALL).expect("there is room");
        // AddressSanitizer would complain of what the last user's frames have marked.
        (stack.usable_limit()..stack.base())
            .rev()
            .step_by(16)
            .for_each(|at| poke(at, round));
        let body = move |suspender: Suspender<()>| {
            let mut locals = [round; 1000];
            std::hint::black_box(&mut locals);
            // SAFETY: on the stack of this context, in its body.
            unsafe { suspender.suspend(()) };
            assert_eq!(std::hint::black_box(&locals), &[round; 1000]);
        };
        let mut context = Context::new(stack, body);
        assert_eq!(context.resume(), Switched::Suspended(()));
        assert_eq!(context.resume(), Switched::Finished);
        pool.give(context.into_stack());
    }
}
