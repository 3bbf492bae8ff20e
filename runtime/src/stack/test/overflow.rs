//! The report of an overflow, in child processes that die of it.

use super::*;
use crate::context::{Context, Suspender};
use crate::loom::sync::Mutex;
use crate::stack::overflow::{AltStack, MessageBuffer, install, set_describe};
use std::os::unix::process::ExitStatusExt;

/// Uses up the stack it runs on.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 32]);
    if depth == u64::MAX {
        0
    } else {
        recurse(depth + 1) + frame[(depth % 32) as usize]
    }
}

fn describe(message: &mut MessageBuffer) {
    message.push_decimal(42);
    message.push_str(" \"");
    message.push_name("resize\n-image");
    message.push_str("\"");
}

/// Runs `body` on a stack of 512 KiB.
fn on_fiber(kind: GuardKind, body: fn()) {
    let mut pool = Pool::new(&guarded_by(kind));
    // Not the first one, so that there is a stack below.
    let mut stacks = take_many(&mut pool, SMALL, 4);
    let stack = stacks.remove(2);
    Context::new(stack, move |_: Suspender<()>| body()).resume();
}

/// What the child is to die of.
fn die(variant: &str) {
    let kind = if variant.ends_with("mprotect") {
        GuardKind::Mprotect
    } else {
        sys::best_guard()
    };
    let _ignoring = variant
        .starts_with("ignored")
        .then(|| set_handler(libc::SIG_IGN, 0));
    let _mine = variant.starts_with("previous").then(|| {
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = exit_42;
        set_handler(handler as *const () as usize, libc::SA_SIGINFO | libc::SA_ONSTACK);
    });
    let _plain = variant
        .starts_with("default")
        .then(|| set_handler(libc::SIG_DFL, 0));
    install().expect("signals work");
    install().expect("twice is once");
    let _alt_stack = AltStack::install().expect("signal stacks work");
    match variant.split(' ').nth(1).expect("two words") {
        "overflow" => {
            set_describe(describe);
            on_fiber(kind, || println!("{}", recurse(0)));
        }
        "nameless" => on_fiber(kind, || println!("{}", recurse(0))),
        "null" => on_fiber(kind, || println!("{}", peek(8))),
        "stray" => {
            let mut pool = Pool::new(&guarded_by(kind));
            let stack = pool.take(SMALL).expect("room");
            println!("{}", peek(stack.limit()));
        }
        "thread" => println!("{}", recurse(0)),
        // SAFETY: raising has no preconditions.
        "raise" => assert_eq!(unsafe { libc::raise(libc::SIGSEGV) }, 0),
        other => panic!("no such variant: {other}"),
    }
}

fn set_handler(handler: usize, flags: i32) {
    // SAFETY: all zeroes is a valid action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: a valid action.
    let result = unsafe { libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()) };
    assert_eq!(result, 0);
}

extern "C" fn exit_42(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: ending the process has no preconditions.
    unsafe { libc::_exit(42) };
}

/// How the child ended, and what it wrote on stderr.
fn watch(variant: &str) -> (std::process::ExitStatus, String) {
    let output = run_child(&test_name(module_path!(), "child"), variant);
    (
        output.status,
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn child() {
    if let Ok(variant) = std::env::var(CHILD) {
        die(&variant);
    }
}

#[test]
fn an_overflow_names_the_fiber_and_aborts() {
    for (kind, name) in [
        (GuardKind::Lightweight, "best"),
        (GuardKind::Mprotect, "mprotect"),
    ] {
        if guard_kinds().all(|usable| usable != kind) {
            continue;
        }
        let (status, text) = watch(&format!("std overflow {name}"));
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{text}");
        let (start, rest) = text.split_once(" (guard page at 0x").expect(&text);
        assert_eq!(
            start,
            "roving: fiber 42 \"resize?-image\" overflowed its stack of 512 KiB"
        );
        let (address, end) = rest.split_once(')').expect(&text);
        assert!(
            usize::from_str_radix(address, 16)
                .expect(&text)
                .is_multiple_of(512 << 10),
            "{text}"
        );
        assert_eq!(end, ". Spawn it with a larger stack_size.\n");
    }
}

#[test]
fn a_fiber_that_nobody_names_is_reported_too() {
    let (status, text) = watch("std nameless");
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{text}");
    assert!(
        text.starts_with("roving: a fiber overflowed its stack of 512 KiB (guard page at 0x"),
        "{text}"
    );
}

#[test]
fn other_faults_are_left_to_the_previous_handler() {
    for variant in [
        "std null",
        "default null",
        "ignored null",
        "std stray",
        "default raise",
    ] {
        let (status, text) = watch(variant);
        assert_eq!(status.signal(), Some(libc::SIGSEGV), "{variant}: {text}");
        assert!(!text.contains("roving:"), "{variant}: {text}");
    }
    for variant in ["previous null", "previous raise", "previous stray"] {
        let (status, text) = watch(variant);
        assert_eq!(status.code(), Some(42), "{variant}: {text}");
    }
    let (status, text) = watch("ignored raise");
    assert!(status.success(), "{text}");
    let (status, text) = watch("previous overflow");
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{text}");
}

#[test]
fn an_overflow_of_a_thread_is_still_reported_by_std() {
    let (status, text) = watch("std thread");
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{text}");
    assert!(
        text.contains("has overflowed its stack") && !text.contains("roving:"),
        "{text}"
    );
}

/// Sets the thread's signal stack, or only reads the current one.
fn alt_stack(new: Option<libc::stack_t>) -> libc::stack_t {
    let mut old = libc::stack_t {
        ss_sp: std::ptr::null_mut(),
        ss_flags: 0,
        ss_size: 0,
    };
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the test below only sets static memory, or what was set before.
    let result = unsafe { libc::sigaltstack(new, &mut old) };
    assert_eq!(result, 0);
    old
}

#[test]
fn a_small_signal_stack_is_replaced_and_comes_back() {
    static SMALL_STACK: Mutex<[u8; 12 << 10]> = Mutex::new([0; 12 << 10]);
    let mut memory = SMALL_STACK.lock();
    let small = libc::stack_t {
        ss_sp: memory.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: memory.len(),
    };
    let threads = alt_stack(Some(small));
    let outer = AltStack::install().expect("signal stacks work");
    let ours = alt_stack(None);
    assert!(ours.ss_sp != small.ss_sp && ours.ss_size >= 64 << 10);
    assert!(!is_readable(ours.ss_sp.addr() - 1) && is_readable(ours.ss_sp.addr()));
    // Large enough: it is kept.
    let inner = AltStack::install().expect("signal stacks work");
    assert_eq!(alt_stack(None).ss_sp, ours.ss_sp);
    drop(inner);
    assert_eq!(alt_stack(None).ss_sp, ours.ss_sp);
    drop(outer);
    assert_eq!(alt_stack(Some(threads)).ss_sp, small.ss_sp);
}

#[test]
fn messages_are_put_together_and_cut_off() {
    let mut message = MessageBuffer::new();
    message.push_decimal(u64::MAX);
    message.push_str(" ");
    message.push_decimal(0);
    message.push_str(" ");
    message.push_hex(0xdead_beef);
    message.push_str(" ");
    message.push_size(8 << 20);
    assert_eq!(message.as_bytes(), b"18446744073709551615 0 0xdeadbeef 8 MiB");
    message.clear();
    message.push_name(&"x".repeat(10_000));
    let name = message.len();
    message.push_str("end");
    assert!(name < MessageBuffer::CAPACITY - 100 && message.as_bytes().ends_with(b"xend"));
    message.push_str(&"y".repeat(10_000));
    assert_eq!(message.len(), MessageBuffer::CAPACITY);
}
