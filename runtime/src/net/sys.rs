//! The few system calls that neither the standard library nor socket2 makes the way we need them.

use crate::loom::sync::OnceLock;
use socket2::SockAddr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Accepts a connection in non-blocking mode, without a second call to set it.
///
/// # Errors
/// As accept4(2); EINTR among them.
pub(super) fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SockAddr)> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let accept = |storage: *mut socket2::SockAddrStorage, len: *mut libc::socklen_t| {
        // SAFETY: `try_init` gives room for any address, and its size.
        let fd = unsafe { libc::accept4(listener.as_raw_fd(), storage.cast(), len, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // SAFETY: accept4 initialises the address when it succeeds.
    unsafe { SockAddr::try_init(accept) }
}

/// Closes what `fd` refers to and leaves in its place something that no call works on (they fail with EBADF,
/// as if it were closed), so that the number, which others may hold, is not used again.
pub(super) fn bury(fd: BorrowedFd<'_>) {
    let Some(grave) = grave() else {
        // No descriptor left to do it with: at least the other side learns of it.
        // SAFETY: takes no pointers.
        unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
        return;
    };
    loop {
        // SAFETY: takes no pointers, and whoever borrows `fd` keeps a descriptor that is open.
        let done = unsafe { libc::dup3(grave.as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) };
        let again = [Some(libc::EINTR), Some(libc::EBUSY)];
        if done >= 0 || !again.contains(&io::Error::last_os_error().raw_os_error()) {
            return;
        }
    }
}

fn grave() -> Option<BorrowedFd<'static>> {
    static GRAVE: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(grave) = GRAVE.get() {
        return Some(grave.as_fd());
    }
    // SAFETY: a string with an end.
    let fd = unsafe { libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    if fd < 0 {
        return None;
    }
    // SAFETY: just made, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Some(GRAVE.get_or_init(|| fd).as_fd())
}
