//! poll(2).

use std::os::fd::RawFd;
use std::time::Duration;

/// Waits until one of these descriptors can be read from or, where it says so, written to; which of them. After `timeout`,
/// or a signal, it may be none.
pub(super) fn poll(watched: &[(RawFd, bool)], timeout: Option<Duration>) -> Vec<bool> {
    let mut entries: Vec<_> = watched
        .iter()
        .map(|&(fd, writes)| libc::pollfd {
            fd,
            events: if writes { libc::POLLOUT } else { libc::POLLIN },
            revents: 0,
        })
        .collect();
    // Rounded up: woken too early it would only poll again.
    let milliseconds = timeout.map_or(-1, |timeout| {
        i32::try_from(timeout.as_millis() + 1).unwrap_or(i32::MAX)
    });
    // SAFETY: so many live entries.
    let count = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, milliseconds) };
    // When it failed they say nothing.
    entries
        .iter()
        .map(|entry| count > 0 && entry.revents != 0)
        .collect()
}
