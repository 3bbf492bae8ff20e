//! Waits of those who have made a call on somebody else's descriptor and were told that it would block.
//!
//! Nothing is asked of poll(2): the call that failed is proof enough, and whoever comes back makes it again. The record
//! lingers in the table with its registration, so that the next wait costs one `epoll_ctl`, not four system calls: the
//! registration is *changed*, which reports anew what is ready, and fails if the number stands for another file by now.
//! So nothing is lost if the descriptor was closed, or made again, without a word (see the room's README).

use super::error::WaitError;
use super::foreign;
use super::readiness::{Direction, Proof};
use super::record::Record;
use super::table;
use crate::fiber::parker::Parker;
use crate::fiber::yield_now;
use crate::loom::sync::Arc;
use std::io;
use std::os::fd::RawFd;
use std::time::Instant;

/// Waits, after a call on `fd` has failed with EAGAIN, until it is worth making again: for writing or for reading. May come
/// back without a reason. Other fibers run meanwhile; on a plain thread it blocks the thread.
///
/// `still` tells whether `fd` is still the descriptor that the call was made on. It is asked when a close that
/// [`closing`](crate::closing) announced can no longer be missed.
///
/// # Errors
/// As [`wait_readable`](crate::wait_readable); EBADF also if `still` says no.
///
/// # Panics
/// As [`wait_readable`](crate::wait_readable).
///
/// ```
/// use std::io::Write;
/// use std::os::fd::AsRawFd;
///
/// let (reader, mut writer) = std::io::pipe()?;
/// writer.write_all(b"x")?;
/// roving_runtime::wait_refused(reader.as_raw_fd(), false, None, || true)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wait_refused(
    fd: RawFd,
    write: bool,
    deadline: Option<Instant>,
    still: impl Fn() -> bool,
) -> io::Result<()> {
    let direction = if write { Direction::Write } else { Direction::Read };
    if fd < 0 {
        return Err(WaitError::Closed.into());
    }
    if let Parker::Thread(_) = Parker::current() {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        return if write {
            foreign::wait_writable(fd, left)
        } else {
            foreign::wait_readable(fd, left)
        };
    }
    loop {
        let user = Lingering::new(fd);
        // A close since the call is either seen here, or ends the record that we hold.
        if !still() {
            return Err(WaitError::Closed.into());
        }
        let record = &user.0;
        // Whatever came since the call is reported again once the registration is changed.
        let _ = record.unready(record.load(), direction, Proof::Refused);
        match record.wait(direction, deadline) {
            // Another file than the one the others of this record wait for: see `foreign`.
            Err(WaitError::System(error)) if error.raw_os_error() == Some(libc::ENOENT) => {
                table::close(record);
            }
            waited => return waited.map_err(Into::into),
        }
    }
}

/// A use of a record that leaves it in the table.
struct Lingering(Arc<Record>);

impl Lingering {
    fn new(fd: RawFd) -> Self {
        loop {
            match table::check_out(fd) {
                Some(record) => return Self(record),
                // For as long as a close(2) takes, on another thread.
                None => yield_now(),
            }
        }
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        table::let_linger(&self.0);
    }
}
