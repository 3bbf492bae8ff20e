//! What the kernel refuses.

use super::*;
use crate::stack::StackError;
use crate::stack::sys::fault::{self, Call};

/// Ends a plan of failures with the test, passed or not.
struct Fault;

impl Fault {
    fn plan(call: Call, skip: usize, count: usize, errno: i32) -> Self {
        fault::plan(call, skip, count, errno);
        Self
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        fault::clear();
    }
}

#[test]
fn mappings_are_counted_and_refused_in_time() {
    let config = SlabsConfig {
        guard: Some(GuardKind::Mprotect),
        max_guard_mappings: Some(21),
        ..Default::default()
    };
    let slabs = slabs_with(config);
    let mut pool = Pool::new(&slabs);
    let mut stacks = take_many(&mut pool, SMALL, 10);
    let error = pool.take(SMALL).expect_err("ten stacks use 20 mappings");
    assert_eq!(error, StackError::MapLimit { used: 22, limit: 21 });
    let text = error.to_string();
    assert!(
        text.contains("vm.max_map_count") && text.contains("sysctl -w") && text.contains("21"),
        "{text}"
    );
    assert_eq!((slabs.stats().live, slabs.stats().free), (10, 0));
    // A stack that has its guard is as good as before.
    pool.give(stacks.pop().expect("ten"));
    stacks.push(pool.take(SMALL).expect("the one that came back"));
    assert!(pool.take(SMALL).is_err());
    // The mappings are free again when their slab is unmapped.
    stacks.into_iter().for_each(|stack| pool.give(stack));
    drop(pool);
    let mut pool = Pool::new(&slabs);
    let _stacks = take_many(&mut pool, SMALL, 10);
    assert!(pool.take(SMALL).is_err());
}

#[test]
fn mappings_come_back_with_their_slab() {
    let config = SlabsConfig {
        guard: Some(GuardKind::Mprotect),
        max_guard_mappings: Some(100),
        ..Default::default()
    };
    let slabs = slabs_with(config);
    let large = StackClass::for_size(StackClass::MAX_SIZE).expect("a class");
    for _ in 0..5 {
        let mut pool = Pool::new(&slabs);
        // Slabs of 4, 8, 16 and 32 slots.
        let stacks = take_many(&mut pool, large, 48);
        stacks.into_iter().for_each(|stack| pool.give(stack));
    }
}

#[test]
fn the_systems_limit_is_an_error_and_leaves_room() {
    isolated(
        module_path!(),
        "the_systems_limit_is_an_error_and_leaves_room",
        || {
            let limit = sys::max_map_count();
            if limit > 100_000 {
                eprintln!("vm.max_map_count is {limit} here: this would take too long");
                return;
            }
            let slabs = guarded_by(GuardKind::Mprotect);
            let mut pool = Pool::new(&slabs);
            let mut stacks = Vec::new();
            let error = loop {
                match pool.take(SMALL) {
                    Ok(stack) => stacks.push(stack),
                    Err(error) => break error,
                }
            };
            assert!(
                matches!(error, StackError::MapLimit { limit: told, .. } if told == limit),
                "{error:?}"
            );
            assert!(
                stacks.len() > limit / 3 && stacks.len() < limit / 2,
                "{}",
                stacks.len()
            );
            // A second runtime is told the same.
            let second = guarded_by(GuardKind::Mprotect);
            assert!(matches!(
                Pool::new(&second).take(SMALL),
                Err(StackError::MapLimit { .. })
            ));
            std::thread::spawn(|| ())
                .join()
                .expect("a thread can still be started");
            drop((stacks, pool, slabs));
            Pool::new(&second)
                .take(SMALL)
                .expect("all mappings have come back");
        },
    );
}

#[test]
fn no_address_space_is_an_error() {
    isolated(module_path!(), "no_address_space_is_an_error", || {
        let text = std::fs::read_to_string("/proc/self/statm").expect("/proc");
        let pages: usize = text
            .split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number");
        let limit = (pages * sys::page_size() + (100 << 20)) as libc::rlim_t;
        let limit = libc::rlimit {
            rlim_cur: limit,
            rlim_max: limit,
        };
        // SAFETY: `limit` is live and valid.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        let slabs = slabs();
        let mut pool = Pool::new(&slabs);
        let mut stacks = Vec::with_capacity(1000);
        let error = loop {
            match pool.take(SMALL) {
                Ok(stack) => stacks.push(stack),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(
                error,
                StackError::AddressSpace {
                    errno: libc::ENOMEM,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.to_string().contains("ulimit -v"), "{error}");
        // Smaller slabs were tried before giving up.
        assert!(stacks.len() >= 160, "{}", stacks.len());
        pool.give(stacks.pop().expect("some"));
        pool.take(SMALL).expect("the one that came back");
    });
}

#[test]
fn a_failed_mapping_loses_nothing() {
    let slabs = slabs();
    let mut pool = Pool::new(&slabs);
    let fault = Fault::plan(Call::Map, 0, usize::MAX, libc::ENOMEM);
    for _ in 0..3 {
        let error = pool.take(SMALL).expect_err("the kernel says no");
        assert_eq!(
            error,
            StackError::AddressSpace {
                bytes: 2 << 20,
                errno: libc::ENOMEM
            }
        );
        assert_eq!(error.errno(), Some(libc::ENOMEM));
    }
    assert_eq!((slabs.stats().slabs, pool.cached()), (0, 0));
    drop(fault);
    pool.take(SMALL).expect("the kernel has come round");
}

#[test]
fn a_failed_guard_loses_nothing() {
    for kind in guard_kinds() {
        let slabs = guarded_by(kind);
        let mut pool = Pool::new(&slabs);
        let mut stacks = take_many(&mut pool, SMALL, 7);
        assert_eq!(pool.cached(), 0);
        {
            // The next batch is 8: three succeed.
            let _fault = Fault::plan(Call::Guard, 3, usize::MAX, libc::ENOMEM);
            stacks.extend(take_many(&mut pool, SMALL, 3));
            let error = pool.take(SMALL).expect_err("the kernel says no");
            match kind {
                GuardKind::Lightweight => assert_eq!(error, StackError::Guard { errno: libc::ENOMEM }),
                GuardKind::Mprotect => assert!(matches!(error, StackError::MapLimit { .. }), "{error:?}"),
            }
            assert_eq!((slabs.stats().live, slabs.stats().free), (10, 0));
        }
        // The slots left bare are used first: still one slab of 16.
        stacks.extend(take_many(&mut pool, SMALL, 6));
        assert_eq!((slabs.stats().slabs, slabs.stats().live), (1, 16));
        stacks
            .iter()
            .for_each(|stack| assert!(!is_readable(stack.limit())));
        let mut starts: Vec<usize> = stacks.iter().map(StackMemory::limit).collect();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len(), 16);
        drop(stacks);
        assert_eq!((slabs.stats().live, slabs.stats().free), (0, 16));
    }
}

#[test]
fn a_slab_that_cannot_be_unmapped_stays_in_use() {
    let slabs = slabs_with(SlabsConfig {
        guard: Some(GuardKind::Mprotect),
        ..Default::default()
    });
    let mut pool = Pool::new(&slabs);
    let stacks = take_many(&mut pool, SMALL, 100);
    let before = slabs.stats();
    {
        let _fault = Fault::plan(Call::Unmap, 0, usize::MAX, libc::ENOMEM);
        stacks.into_iter().for_each(|stack| pool.give(stack));
        drop(pool);
    }
    let after = slabs.stats();
    assert_eq!(
        (after.slabs, after.mapped_bytes, after.live),
        (before.slabs, before.mapped_bytes, 0)
    );
    let mut pool = Pool::new(&slabs);
    let _stacks = take_many(&mut pool, SMALL, 100);
    assert_eq!(slabs.stats().slabs, before.slabs);
}
