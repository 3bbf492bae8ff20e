//! Waits for descriptors of anybody's: level-triggered by meaning, as poll(2).
//!
//! Each wait asks poll(2) first, and again whenever it is woken, so that an event (which may be late, or
//! meant for another) is never more than a reason to ask.

use super::bell::Bell;
use super::error::WaitError;
use super::readiness::{Direction, Entered, Proof, Snapshot, ToUnready};
use super::record::Record;
use super::table;
use super::thread_wait;
use crate::fiber::parker::{Parked, Parker, Unparker};
use crate::fiber::wait_list::WaitNode;
use crate::fiber::{deadline_after, yield_now};
use crate::loom::sync::Arc;
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// A descriptor, what is asked of it, and what [`wait_fds`] found: poll(2)'s `pollfd`, in Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollFd {
    /// The descriptor; a negative one is passed over.
    pub fd: RawFd,
    /// Whether to wait until it can be read.
    pub read: bool,
    /// Whether to wait until it can be written.
    pub write: bool,
    /// What was found.
    pub ready: FdReady,
}

/// What a descriptor is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FdReady {
    /// A read would not block (it may fail). Only if that was asked for.
    pub readable: bool,
    /// A write would not block (it may fail). Only if that was asked for.
    pub writable: bool,
    /// The other side has gone.
    pub hangup: bool,
    /// A call would fail.
    pub error: bool,
    /// It is not open, or is being closed.
    pub invalid: bool,
}

impl PollFd {
    /// A question that has not been asked yet.
    pub fn new(fd: RawFd, read: bool, write: bool) -> Self {
        Self {
            fd,
            read,
            write,
            ready: FdReady::default(),
        }
    }

    fn directions(self) -> impl Iterator<Item = Direction> {
        let read = self.read.then_some(Direction::Read);
        // A question for nothing is one for errors: they come with any event.
        let write = (self.write || !self.read).then_some(Direction::Write);
        read.into_iter().chain(write)
    }

    fn to_system(self) -> libc::pollfd {
        let read = if self.read { libc::POLLIN } else { 0 };
        let write = if self.write { libc::POLLOUT } else { 0 };
        libc::pollfd {
            fd: self.fd,
            events: read | write,
            revents: 0,
        }
    }

    fn answer(&mut self, revents: libc::c_short) {
        let gone = libc::POLLHUP | libc::POLLERR;
        self.ready = FdReady {
            readable: self.read && revents & (libc::POLLIN | gone) != 0,
            writable: self.write && revents & (libc::POLLOUT | gone) != 0,
            hangup: revents & libc::POLLHUP != 0,
            error: revents & libc::POLLERR != 0,
            invalid: revents & libc::POLLNVAL != 0,
        };
    }
}

/// Waits until `fd` can be read without blocking: there is data, an end, or an error to be read. Other fibers
/// run meanwhile; on a plain thread it blocks the thread. Regular files are always ready.
///
/// Any number may wait for one descriptor; all wake. Whoever closes it while others may wait calls
/// [`closing`] first.
///
/// # Errors
/// - EBADF: `fd` is not open, or [`closing`] was called for it.
/// - `TimedOut`: `timeout` passed first.
/// - One for which [`is_cancelled`](crate::is_cancelled) is true: the calling fiber was cancelled.
/// - What the system says when it cannot watch the descriptor: ENOSPC (`fs.epoll.max_user_watches`), ENOMEM.
///
/// # Panics
/// In a stackless future, where it would stop the worker.
///
/// ```
/// use std::io::Write;
/// use std::os::fd::AsRawFd;
///
/// let (reader, mut writer) = std::io::pipe()?;
/// writer.write_all(b"x")?;
/// roving_runtime::wait_readable(reader.as_raw_fd(), None)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wait_readable(fd: RawFd, timeout: Option<Duration>) -> io::Result<()> {
    wait_fd(PollFd::new(fd, true, false), timeout).map(|_| ())
}

/// Waits until `fd` can be written without blocking, or a write would fail at once.
///
/// # Errors
/// As [`wait_readable`].
///
/// # Panics
/// As [`wait_readable`].
///
/// ```
/// use std::os::fd::AsRawFd;
///
/// let (_reader, writer) = std::io::pipe()?;
/// roving_runtime::wait_writable(writer.as_raw_fd(), None)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wait_writable(fd: RawFd, timeout: Option<Duration>) -> io::Result<()> {
    wait_fd(PollFd::new(fd, false, true), timeout).map(|_| ())
}

/// Waits until a descriptor is ready for anything that is asked of it.
///
/// # Errors
/// As [`wait_readable`].
///
/// # Panics
/// As [`wait_readable`].
///
/// ```
/// use roving_runtime::{PollFd, wait_fd};
/// use std::os::fd::AsRawFd;
///
/// let (one, _other) = std::os::unix::net::UnixStream::pair()?;
/// let ready = wait_fd(PollFd::new(one.as_raw_fd(), true, true), None)?;
/// assert!(ready.writable && !ready.readable);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wait_fd(mut fd: PollFd, timeout: Option<Duration>) -> io::Result<FdReady> {
    if fd.fd < 0 {
        return Err(WaitError::Closed.into());
    }
    if wait_fds(std::slice::from_mut(&mut fd), timeout)? == 0 {
        return Err(WaitError::TimedOut.into());
    }
    if fd.ready.invalid {
        Err(WaitError::Closed.into())
    } else {
        Ok(fd.ready)
    }
}

/// Waits until one of several descriptors is ready, and says how many are: poll(2), for fibers. None are when
/// `timeout` passed first.
///
/// # Errors
/// As [`wait_readable`], but for EBADF and `TimedOut`. EINVAL: more descriptors than may be open.
///
/// # Panics
/// As [`wait_readable`].
///
/// ```
/// use roving_runtime::{PollFd, wait_fds};
/// use std::io::Write;
/// use std::os::fd::AsRawFd;
///
/// let ((one, _silent), (other, mut writer)) = (std::io::pipe()?, std::io::pipe()?);
/// writer.write_all(b"x")?;
/// let mut fds = [&one, &other].map(|pipe| PollFd::new(pipe.as_raw_fd(), true, false));
/// assert_eq!(wait_fds(&mut fds, None)?, 1);
/// assert!(fds[1].ready.readable);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wait_fds(fds: &mut [PollFd], timeout: Option<Duration>) -> io::Result<usize> {
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return ask(fds);
    }
    Wait::new(fds)?.run(timeout.and_then(deadline_after))
}

/// To be called before a descriptor is closed for which others may wait, and held until it is: they end with
/// EBADF, and whoever waits for a new descriptor of the same number is not taken for one of them. Without it they
/// wait on (for a file that is gone: for ever), as they do in poll(2).
///
/// The types of [`net`](crate::net) do this themselves.
///
/// ```
/// use std::os::fd::AsRawFd;
///
/// let (reader, _writer) = std::io::pipe()?;
/// let closing = roving_runtime::closing(reader.as_raw_fd());
/// drop(reader);
/// drop(closing);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn closing(fd: RawFd) -> Closing {
    table::closing(fd);
    Closing(fd)
}

/// As [`closing`], for all descriptors of a range that anybody waits, or has waited, for.
///
/// ```
/// drop(roving_runtime::closing_range(1_000..2_000));
/// ```
pub fn closing_range(range: Range<RawFd>) -> Vec<Closing> {
    table::within(&range).into_iter().map(closing).collect()
}

/// A descriptor that is being closed: see [`closing`]. Whoever begins to wait for the number meanwhile waits for
/// this to be dropped first.
#[derive(Debug)]
#[must_use = "to be held until the descriptor is closed"]
pub struct Closing(RawFd);

impl Drop for Closing {
    fn drop(&mut self) {
        table::closed(self.0);
    }
}

/// poll(2) without waiting: how many are ready.
fn ask(fds: &mut [PollFd]) -> io::Result<usize> {
    let now = Some(Instant::now());
    if let [fd] = fds {
        let mut system = [fd.to_system()];
        thread_wait::poll(&mut system, now)?;
        fd.answer(system[0].revents);
    } else {
        let mut system: Vec<_> = fds.iter().map(|fd| fd.to_system()).collect();
        thread_wait::poll(&mut system, now)?;
        std::iter::zip(&mut *fds, system).for_each(|(fd, system)| fd.answer(system.revents));
    }
    Ok(fds.iter().filter(|fd| fd.ready != FdReady::default()).count())
}

/// How a waiter is woken.
enum Sleeper {
    Fiber(Parker),
    /// See `thread_wait`.
    Thread(Arc<Bell>),
}

/// One wait for several descriptors.
struct Wait<'a> {
    fds: &'a mut [PollFd],
    users: Vec<User>,
    sleeper: Sleeper,
}

/// A use of a record, for one direction.
struct User {
    record: Arc<Record>,
    direction: Direction,
    /// Of the `PollFd` it is for.
    index: usize,
    /// Whether events tell of it.
    watched: bool,
}

impl User {
    fn new(fd: RawFd, direction: Direction, index: usize) -> Self {
        let record = loop {
            match table::check_out(fd) {
                Some(record) => break record,
                // For as long as a close(2) takes, on another thread.
                None => yield_now(),
            }
        };
        Self {
            record,
            direction,
            index,
            watched: true,
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        table::check_in(&self.record);
    }
}

/// What became of an attempt to wait.
enum Round {
    /// Ask again.
    Again,
    TimedOut,
}

impl<'a> Wait<'a> {
    fn new(fds: &'a mut [PollFd]) -> io::Result<Self> {
        let sleeper = match Parker::current() {
            parker @ Parker::Fiber(_) => Sleeper::Fiber(parker),
            Parker::Thread(_) => Sleeper::Thread(thread_wait::bell()?),
        };
        let users = fds
            .iter()
            .enumerate()
            .filter(|(_, fd)| fd.fd >= 0)
            .flat_map(|(index, fd)| {
                fd.directions()
                    .map(move |direction| User::new(fd.fd, direction, index))
            })
            .collect();
        Ok(Self { fds, users, sleeper })
    }

    fn run(mut self, deadline: Option<Instant>) -> io::Result<usize> {
        loop {
            // Before poll(2) is asked: an event after this voids its answer.
            let seen: Vec<Snapshot> = self.users.iter().map(|user| user.record.load()).collect();
            let closed = self.note_closed(&seen);
            let ready = ask_unless(closed, self.fds)?;
            if ready != 0 {
                return Ok(ready);
            }
            let unready = std::iter::zip(&self.users, seen).all(|(user, seen)| {
                user.record.unready(seen, user.direction, Proof::Refused) == ToUnready::Unready
            });
            if !unready {
                continue;
            }
            match self.sleep(deadline)? {
                Round::Again => {}
                Round::TimedOut => return ask(self.fds),
            }
        }
    }

    /// Marks what is being closed; how many those are.
    fn note_closed(&mut self, seen: &[Snapshot]) -> usize {
        let mut closed = 0;
        for (user, seen) in std::iter::zip(&self.users, seen) {
            if seen.is_closed() {
                self.fds[user.index].answer(libc::POLLNVAL);
                closed += 1;
            }
        }
        closed
    }

    /// Waits for any event.
    fn sleep(&mut self, deadline: Option<Instant>) -> io::Result<Round> {
        let is_cancelled =
            |sleeper: &Sleeper| matches!(sleeper, Sleeper::Fiber(parker) if parker.is_cancelled());
        if is_cancelled(&self.sleeper) {
            return Err(WaitError::Cancelled.into());
        }
        let mut queued = Queued::new(&self.users, &self.sleeper);
        match queued.enter_all() {
            Ok(Entered::Ready) => return Ok(Round::Again),
            Ok(Entered::Waiting) => {}
            Err((user, error)) => {
                drop(queued);
                return self.refused(user, error);
            }
        }
        let timed_out = match &self.sleeper {
            Sleeper::Fiber(parker) => {
                let reason = self
                    .users
                    .first()
                    .map_or(Direction::Read, |user| user.direction)
                    .reason();
                parker.park(deadline, reason) == Parked::TimedOut
            }
            Sleeper::Thread(bell) => {
                let mut system: Vec<_> = self.fds.iter().map(|fd| fd.to_system()).collect();
                system.push(thread_wait::pollfd(bell.fd(), Direction::Read));
                let ready = thread_wait::poll(&mut system, deadline)?;
                bell.silence();
                !ready
            }
        };
        let woken = queued.leave_all();
        if is_cancelled(&self.sleeper) && !woken {
            return Err(WaitError::Cancelled.into());
        }
        Ok(if timed_out && !woken {
            Round::TimedOut
        } else {
            Round::Again
        })
    }

    /// The descriptor of `self.users[user]` could not be watched.
    fn refused(&mut self, user: usize, error: WaitError) -> io::Result<Round> {
        let WaitError::System(error) = error else {
            // Closed: the next look at the record says so.
            return Ok(Round::Again);
        };
        let refused = &mut self.users[user];
        match error.raw_os_error() {
            // The number stands for another file than the one the others of this record wait for: it was
            // closed without a word. They learn of it now, and we get a record of our own.
            Some(libc::ENOENT) => {
                let fd = refused.record.fd();
                table::close(&refused.record);
                let (direction, index) = (refused.direction, refused.index);
                *refused = User::new(fd, direction, index);
                Ok(Round::Again)
            }
            // A regular file, or the like, asked about errors only: it never has any.
            Some(libc::EPERM) => {
                refused.watched = false;
                Ok(Round::Again)
            }
            // Closed since poll(2) was asked, which will say so.
            Some(libc::EBADF) => Ok(Round::Again),
            _ => Err(error),
        }
    }
}

/// poll(2) without waiting, unless the answer is there already.
fn ask_unless(answered: usize, fds: &mut [PollFd]) -> io::Result<usize> {
    if answered != 0 { Ok(answered) } else { ask(fds) }
}

/// The nodes of a wait in the lists of its records, until dropped. They do not move: the box keeps them.
struct Queued<'a> {
    users: &'a [User],
    nodes: Box<[WaitNode]>,
    arm: bool,
    entered: usize,
}

impl<'a> Queued<'a> {
    fn new(users: &'a [User], sleeper: &Sleeper) -> Self {
        let unparker = || match sleeper {
            Sleeper::Fiber(parker) => parker.unparker(),
            Sleeper::Thread(bell) => Unparker::Future(bell.clone().into()),
        };
        let nodes = users.iter().map(|_| WaitNode::new(unparker())).collect();
        Self {
            users,
            nodes,
            arm: matches!(sleeper, Sleeper::Fiber(_)),
            entered: 0,
        }
    }

    /// Stops at the first that need not wait, or cannot.
    fn enter_all(&mut self) -> Result<Entered, (usize, WaitError)> {
        for (index, (user, node)) in std::iter::zip(self.users, &self.nodes).enumerate() {
            // SAFETY: the node stays in its box until `leave_all`, which the drop calls at the latest.
            let entered = unsafe {
                user.record
                    .enter(user.direction, NonNull::from(node), self.arm && user.watched)
            };
            match entered {
                Ok(Entered::Waiting) => self.entered = index + 1,
                Ok(Entered::Ready) => return Ok(Entered::Ready),
                Err(error) => return Err((index, error)),
            }
        }
        Ok(Entered::Waiting)
    }

    /// Whether any was woken.
    fn leave_all(&mut self) -> bool {
        let entered = std::iter::zip(self.users, &self.nodes).take(std::mem::take(&mut self.entered));
        let mut woken = false;
        for (user, node) in entered {
            // SAFETY: it was entered there, for that direction, and is alive.
            woken |= unsafe { user.record.leave(user.direction, NonNull::from(node)) }.was_woken();
        }
        woken
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.leave_all();
    }
}
