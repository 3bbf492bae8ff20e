//! How a plain thread waits for a descriptor: in poll(2), on the descriptor itself and on an eventfd of the
//! thread's that the record's waker rings. So it depends on no worker's poll (there may be no runtime, or
//! one whose workers are all stuck), and yet learns of a close.

use super::bell::Bell;
use super::error::{WaitError, closed};
use super::readiness::{Direction, Entered, Event, Readiness, Registration};
use crate::fiber::parker::Unparker;
use crate::fiber::wait_list::WaitNode;
use crate::loom::sync::Arc;
use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::task::Waker;
use std::time::{Duration, Instant};

thread_local! {
    static BELL: RefCell<Option<Arc<Bell>>> = const { RefCell::new(None) };
}

/// This thread's.
pub(super) fn bell() -> io::Result<Arc<Bell>> {
    BELL.with_borrow_mut(|bell| match bell {
        Some(bell) => Ok(bell.clone()),
        None => Ok(bell.insert(Arc::new(Bell::new()?)).clone()),
    })
}

/// Blocks this thread until `fd` is ready for `direction`, or spuriously.
pub(super) fn wait<R: Registration>(
    fd: RawFd,
    readiness: &Readiness<R>,
    direction: Direction,
    deadline: Option<Instant>,
) -> Result<(), WaitError> {
    let bell = bell()?;
    let node = std::pin::pin!(WaitNode::new(Unparker::Future(Waker::from(bell.clone()))));
    let node = NonNull::from(&*node);
    // SAFETY: the node stays pinned on this stack until `leave`, below.
    if unsafe { readiness.enter(direction, node, false)? } == Entered::Ready {
        return Ok(());
    }
    let mut fds = [pollfd(fd, direction), pollfd(bell.fd(), Direction::Read)];
    let polled = poll(&mut fds, deadline);
    // SAFETY: entered above, and alive.
    let _ = unsafe { readiness.leave(direction, node) };
    if fds[1].revents != 0 {
        bell.silence();
    }
    if readiness.load().is_closed() {
        return Err(WaitError::Closed);
    }
    if !polled? {
        return Err(WaitError::TimedOut);
    }
    let revents = fds[0].revents;
    if revents & libc::POLLNVAL != 0 {
        return Err(WaitError::System(closed()));
    }
    if revents != 0 {
        // Those who rely on events hear of it by themselves.
        let event = match direction {
            Direction::Read => Event::READ,
            Direction::Write => Event::WRITE,
        };
        let mut wakes = Vec::new();
        readiness.notify(event, &mut wakes);
        super::driver::finish(&mut wakes);
    }
    Ok(())
}

pub(super) fn pollfd(fd: RawFd, direction: Direction) -> libc::pollfd {
    let events = match direction {
        Direction::Read => libc::POLLIN,
        Direction::Write => libc::POLLOUT,
    };
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// poll(2) until `deadline`, through signals. False when it passed.
///
/// # Errors
/// ENOMEM.
pub(super) fn poll(fds: &mut [libc::pollfd], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        // Never shorter than asked for: whole milliseconds above, until none are left.
        let timeout = match deadline {
            None => -1,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let left = left.saturating_add(Duration::from_nanos(999_999)).as_millis();
                libc::c_int::try_from(left).unwrap_or(libc::c_int::MAX)
            }
        };
        // SAFETY: a slice of that length.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) };
        match ready {
            0 if timeout == libc::c_int::MAX => {}
            0 => return Ok(false),
            1.. => return Ok(true),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
