//! What the system says of this process, by the names that Prometheus' own clients use.

use super::exposition::{Exposition, Kind};
use std::fs;

/// What is read of `/proc/self`. What cannot be read, for want of a descriptor, say, is left out.
pub(super) fn add_to(page: &mut Exposition) {
    // SAFETY: asks for constants of the system.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
    // SAFETY: as above.
    let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as u64;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may have anything in it.
    let fields: Vec<u64> = match stat.rfind(") ") {
        Some(end) => stat[end + 2..]
            .split_ascii_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect(),
        None => Vec::new(),
    };
    // Counted from the state, which is field 3 in proc(5).
    let field = |number: usize| fields.get(number - 3).copied();
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        page.single(
            "process_cpu_seconds_total",
            Kind::Counter,
            "Total user and system CPU time spent in seconds.",
            (user + system) as f64 / ticks,
        );
    }
    if let Some(threads) = field(20) {
        page.single(
            "process_threads",
            Kind::Gauge,
            "Threads of this process.",
            threads,
        );
    }
    if let (Some(started), Some(booted)) = (field(22), boot_time()) {
        page.single(
            "process_start_time_seconds",
            Kind::Gauge,
            "Start time of the process since unix epoch in seconds.",
            booted as f64 + started as f64 / ticks,
        );
    }
    if let (Some(virtual_bytes), Some(pages)) = (field(23), field(24)) {
        page.single(
            "process_virtual_memory_bytes",
            Kind::Gauge,
            "Virtual memory size in bytes.",
            virtual_bytes,
        );
        page.single(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory size in bytes.",
            pages * page_size,
        );
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // Without the one that it is counted with.
        let open = open.count().saturating_sub(1);
        page.single(
            "process_open_fds",
            Kind::Gauge,
            "Number of open file descriptors.",
            open,
        );
    }
    if let Some(most) = descriptor_limit() {
        page.single(
            "process_max_fds",
            Kind::Gauge,
            "Maximum number of open file descriptors.",
            most,
        );
    }
}

fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn descriptor_limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a live place of the right type.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (got == 0).then_some(limit.rlim_cur)
}
