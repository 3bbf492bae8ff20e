//! Seen from the kernel: fdatasync ends before an enqueue returns.
#![allow(missing_docs)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::*;
use roving_store::SqliteOptions;

#[test]
fn enqueues() {
    let Some(path) = is_child("enqueues").then(|| variable::<String>("ROVING_STORE_PATH").unwrap()) else {
        return;
    };
    let store = SqliteOptions::new(Path::new(&path)).open().unwrap();
    for number in 0..5 {
        // Writes to a descriptor that is none: marks in the trace.
        let mark = |text: String| {
            // SAFETY: the text is as long as is said, and the descriptor not open: nothing happens but the call.
            unsafe { libc::write(12_345, text.as_ptr().cast(), text.len()) };
        };
        mark(format!("begin-{number}"));
        enqueue(&store, job("a"));
        mark(format!("end-{number}"));
    }
}

#[test]
fn fdatasync_ends_before_enqueue_returns() {
    if Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        eprintln!("skipped: there is no strace (Debian: apt-get install strace)");
        return;
    }
    let folder = Folder::new("strace");
    let (path, trace) = (folder.join("jobs.db"), folder.join("trace"));
    let traced = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=write,fdatasync,fsync", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["enqueues", "--exact", "--nocapture"])
        .envs([
            ("ROVING_STORE_CHILD", "enqueues"),
            ("ROVING_STORE_PATH", path.to_str().unwrap()),
        ])
        .output()
        .unwrap();
    let text = std::fs::read_to_string(&trace).unwrap_or_default();
    if !traced.status.success() && !text.contains("begin-0") {
        eprintln!(
            "skipped: strace may not trace here: {}",
            String::from_utf8_lossy(&traced.stderr)
        );
        return;
    }
    assert!(traced.status.success());
    let lines: Vec<&str> = text.lines().collect();
    let find = |mark: String| lines.iter().position(|line| line.contains(&mark)).expect(&mark);
    for number in 0..5 {
        let between = &lines[find(format!("begin-{number}"))..find(format!("end-{number}"))];
        // A call that another thread's interrupts is on two lines: `<unfinished ...>` and `resumed`, with its result.
        let begun = between
            .iter()
            .filter(|line| line.contains("sync(") && line.contains("-wal"));
        let ended = between
            .iter()
            .filter(|line| line.contains("sync") && line.trim_end().ends_with("= 0"));
        assert!(begun.count() >= 1 && ended.count() >= 1, "{between:#?}");
    }
}
