//! A timer for the poll finer than its own milliseconds: a timerfd registered in it.

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

pub(super) struct Alarm {
    fd: OwnedFd,
    /// What it is set to, so that an unchanged deadline costs no system call.
    set_to: Option<Instant>,
}

impl Alarm {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { fd, set_to: None })
    }

    /// Rings at `deadline` (or at once, if that has passed). Setting it anew silences the old ring.
    pub(super) fn set(&mut self, deadline: Instant, now: Instant) -> io::Result<()> {
        if self.set_to == Some(deadline) && deadline > now {
            return Ok(());
        }
        // Zero would disarm it.
        let after = deadline
            .saturating_duration_since(now)
            .max(Duration::from_nanos(1));
        let value = libc::timespec {
            tv_sec: libc::time_t::try_from(after.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: after.subsec_nanos() as _,
        };
        let once = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let spec = libc::itimerspec {
            it_interval: once,
            it_value: value,
        };
        // SAFETY: our descriptor and a valid specification; the old one is not asked for.
        if unsafe { libc::timerfd_settime(self.fd.as_raw_fd(), 0, &spec, std::ptr::null_mut()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        self.set_to = Some(deadline);
        Ok(())
    }
}
