//! An eventfd: rung from anywhere, signal handlers included, and heard by whoever polls it.

use crate::loom::sync::Arc;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::task::Wake;

pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Makes the descriptor readable. Safe to call in a signal handler.
    pub(super) fn ring(&self) {
        let one = 1_u64;
        // SAFETY: eight bytes of ours. It fails only when the bell rings already.
        unsafe { libc::write(self.fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// Whether it rang; it rings no more.
    pub(super) fn silence(&self) -> bool {
        let mut count = 0_u64;
        // SAFETY: eight bytes of ours. It fails only when the bell does not ring.
        unsafe { libc::read(self.fd(), (&raw mut count).cast(), size_of::<u64>()) > 0 }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
