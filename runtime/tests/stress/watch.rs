//! What looks on: a watchdog that says who hangs, and a count of descriptors.

use roving_runtime::Handle;
use roving_runtime::net::UnixStream;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Aborts the process when it is not dropped in time, and says which fibers wait for what.
pub(crate) struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    pub(crate) fn new(limit: Duration, handle: Handle) -> Self {
        let (alive, ends) = channel::<()>();
        std::thread::spawn(move || {
            if ends.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                let fibers = handle.dump();
                eprintln!(
                    "the storm does not end; {} fibers: {:#?}",
                    fibers.len(),
                    handle.metrics()
                );
                fibers.iter().take(200).for_each(|fiber| eprintln!("  {fiber}"));
                std::process::abort();
            }
        });
        Self { _alive: alive }
    }
}

/// Waits for what is about to come true.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "not so after ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What is open before a storm.
pub(crate) fn fds_before() -> Vec<(String, String)> {
    // With the first socket that is closed under its users, the process opens what it puts in their place.
    let (one, other) = UnixStream::pair().expect("two sockets");
    one.close();
    drop((one, other));
    open_fds()
}

/// What each open descriptor is, by number.
fn open_fds() -> Vec<(String, String)> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("there is /proc");
    let mut fds: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // The one that lists them is gone by now.
            let file = std::fs::read_link(entry.path()).ok()?;
            let number = entry.file_name().to_string_lossy().into_owned();
            (!file.ends_with("fd")).then(|| (number, file.to_string_lossy().into_owned()))
        })
        .collect();
    fds.sort_unstable();
    fds
}

/// Panics unless the descriptors open now are as many as `before`. Threads that end close theirs a little later.
pub(crate) fn all_closed(before: Vec<(String, String)>) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let now = open_fds();
        if now.len() <= before.len() {
            return;
        }
        if Instant::now() > end {
            let left: Vec<_> = now.iter().filter(|fd| !before.contains(fd)).collect();
            panic!("left open: {left:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
