//! Tests of the whole room. What changes or measures the process as a whole runs in a child process.

mod layout;
mod limits;
mod memory;
mod overflow;
mod policy;
mod random;
mod registry;
mod warm;

use super::{GuardKind, Pool, Slabs, SlabsConfig, Stack, StackClass, sys};
use crate::context::StackMemory;
use crate::loom::sync::Arc;
use std::process::{Command, Output};

const SMALL: StackClass = StackClass::DEFAULT;

/// Both kinds of guard, or the one there is on an old kernel.
fn guard_kinds() -> impl Iterator<Item = GuardKind> {
    [GuardKind::Lightweight, GuardKind::Mprotect]
        .into_iter()
        .filter(|&kind| {
            let usable = kind == GuardKind::Mprotect || sys::best_guard() == kind;
            if !usable {
                eprintln!("this kernel has no lightweight guards: half of this test is not run");
            }
            usable
        })
}

fn slabs_with(config: SlabsConfig) -> Arc<Slabs> {
    Arc::new(Slabs::new(&config).expect("the configuration is fine"))
}

fn slabs() -> Arc<Slabs> {
    slabs_with(SlabsConfig::default())
}

fn guarded_by(kind: GuardKind) -> Arc<Slabs> {
    slabs_with(SlabsConfig {
        guard: Some(kind),
        ..SlabsConfig::default()
    })
}

fn take_many(pool: &mut Pool, class: StackClass, count: usize) -> Vec<Stack> {
    (0..count)
        .map(|_| pool.take(class).expect("there is room"))
        .collect()
}

/// Epochs in which no stack is needed, until none is kept.
fn let_go(slabs: &Slabs) {
    while slabs.end_epoch() {
        while slabs.trim() {}
    }
}

/// The addresses a stack owns, its guard included.
fn span(stack: &Stack) -> std::ops::Range<usize> {
    stack.limit()..stack.limit() + stack.class().size()
}

/// Writes a byte on a stack that the test owns.
fn poke(address: usize, value: u8) {
    let pointer = std::ptr::with_exposed_provenance_mut::<u8>(address);
    // SAFETY: tests poke at addresses between a stack's usable limit and its top only.
    unsafe { pointer.write_volatile(value) };
}

/// Reads a byte of a stack that the test owns.
fn peek(address: usize) -> u8 {
    let pointer = std::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: tests look at addresses between a stack's usable limit and its top only.
    unsafe { pointer.read_volatile() }
}

/// Whether an address can be read, found out by the kernel, which does not crash.
fn is_readable(address: usize) -> bool {
    use std::os::fd::AsRawFd;
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let pointer = std::ptr::without_provenance(address);
    // SAFETY: the kernel checks the address and answers EFAULT where it cannot be read.
    let written = unsafe { libc::write(writer.as_raw_fd(), pointer, 1) };
    if written < 0 {
        assert_eq!(sys::errno(), libc::EFAULT);
    }
    written == 1
}

/// How many pages of a range have memory behind them; none where part of it is not mapped.
fn resident_pages(range: std::ops::Range<usize>) -> Option<usize> {
    let page = sys::page_size();
    let mut pages = vec![0_u8; range.len().div_ceil(page)];
    let start = std::ptr::without_provenance_mut(range.start);
    // SAFETY: it reads no memory of the range, and `pages` has room for the answer.
    let result = unsafe { libc::mincore(start, range.len(), pages.as_mut_ptr().cast()) };
    (result == 0).then(|| pages.iter().filter(|&&page| page & 1 == 1).count())
}

const CHILD: &str = "ROVING_STACK_TEST_CHILD";

/// Whether this process was started by [`run_child`].
fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs one test of this binary in a process of its own, with `variant` in the environment.
fn run_child(test: &str, variant: &str) -> Output {
    Command::new(std::env::current_exe().expect("a test binary has a path"))
        .args([
            test,
            "--exact",
            "--nocapture",
            "--include-ignored",
            "--test-threads=1",
        ])
        .env(CHILD, variant)
        .env("RUST_BACKTRACE", "0")
        // Under AddressSanitizer: leave faults to us, and let abandoned stacks be.
        .env(
            "ASAN_OPTIONS",
            "handle_segv=0:handle_sigbus=0:use_sigaltstack=0:detect_leaks=0",
        )
        .output()
        .expect("the test binary runs")
}

/// The name under which the test binary knows a test of the module with this path.
fn test_name(module: &str, test: &str) -> String {
    let (_crate, path) = module.split_once("::").expect("a module is in a crate");
    format!("{path}::{test}")
}

/// Runs `body` alone in a child process and passes if it does.
fn isolated(module: &str, test: &str, body: fn()) {
    if is_child() {
        return body();
    }
    let output = run_child(&test_name(module, test), "1");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the child failed: {}\n{text}",
        output.status
    );
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "the child ran no test"
    );
    eprint!("{text}");
}
