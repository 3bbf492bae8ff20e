//! Signals of the operating system, waited for as anything else: the handler notes the signal and rings a
//! bell that a record watches. (The self-pipe trick, D. J. Bernstein; with an eventfd.)

use super::bell::Bell;
use super::readiness::Direction;
use super::source::{Source, Whole};
use crate::loom::sync::Arc;
use crate::loom::sync::atomic::{AtomicU64, Ordering};
use signal_hook_registry::SigId;
use std::ffi::c_int;
use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll};
use std::time::Duration;

/// Some signals, to be waited for one after another.
///
/// While it lives, they do not do what they do by default (end the process, most often). That stays so when it
/// is dropped: they then do nothing. Several may ask for the same signal: each gets it. A signal that comes
/// again before it was taken counts once. Lower numbers are taken first.
///
/// ```no_run
/// use roving_runtime::Signals;
///
/// let signals = Signals::new(&[Signals::INTERRUPT, Signals::TERMINATE])?;
/// let signal = signals.wait()?;
/// println!("ended by signal {signal}");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Signals {
    // Before what it watches.
    source: Source,
    shared: Arc<Shared>,
    actions: Vec<SigId>,
}

/// What the handler knows. It outlives [`Signals`] for as long as a handler runs.
struct Shared {
    bell: Bell,
    /// Bit n - 1: signal n came.
    pending: AtomicU64,
}

impl Signals {
    /// SIGHUP.
    pub const HANGUP: i32 = libc::SIGHUP;
    /// SIGINT: Ctrl-C.
    pub const INTERRUPT: i32 = libc::SIGINT;
    /// SIGQUIT.
    pub const QUIT: i32 = libc::SIGQUIT;
    /// SIGTERM.
    pub const TERMINATE: i32 = libc::SIGTERM;
    /// SIGCHLD: a child process has ended or stopped.
    pub const CHILD: i32 = libc::SIGCHLD;
    /// SIGUSR1.
    pub const USER_1: i32 = libc::SIGUSR1;
    /// SIGUSR2.
    pub const USER_2: i32 = libc::SIGUSR2;
    /// SIGWINCH: the terminal's size has changed.
    pub const WINDOW_CHANGE: i32 = libc::SIGWINCH;

    /// Takes these signals over.
    ///
    /// # Errors
    /// `InvalidInput`: one is no signal, or none that may be handled (SIGKILL, SIGSTOP, SIGILL, SIGFPE,
    /// SIGSEGV). EMFILE, ENFILE, ENOMEM.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        for signal in signals {
            if !(1..=64).contains(signal) || signal_hook_registry::FORBIDDEN.contains(signal) {
                let message = format!("{signal} is no signal that can be waited for");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        }
        let shared = Arc::new(Shared {
            bell: Bell::new()?,
            pending: AtomicU64::new(0),
        });
        let source = Source::new(shared.bell.as_fd(), true);
        let mut this = Self {
            source,
            shared,
            actions: Vec::new(),
        };
        for &signal in signals {
            let shared = this.shared.clone();
            // SAFETY: the action makes one atomic operation and one write(2), both safe in a handler, and
            // keeps errno.
            let action = unsafe { signal_hook_registry::register(signal, move || shared.note(signal)) };
            this.actions.push(action?);
        }
        Ok(this)
    }

    /// Waits for the next one.
    ///
    /// # Errors
    /// One for which [`is_cancelled`](crate::is_cancelled) is true: the calling fiber was cancelled.
    ///
    /// # Panics
    /// In a stackless future, when it would have to wait.
    pub fn wait(&self) -> io::Result<i32> {
        self.source
            .run(Direction::Read, None, || self.shared.take())
            .map(|signal| signal.0)
    }

    /// As [`Signals::wait`], for at most `timeout`.
    ///
    /// # Errors
    /// As there; `TimedOut`.
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<i32> {
        self.source
            .run(Direction::Read, Some(timeout), || self.shared.take())
            .map(|signal| signal.0)
    }

    /// As [`Signals::wait`], for a stackless future.
    ///
    /// # Errors
    /// What the system says when it cannot watch another descriptor.
    pub fn poll_wait(&self, cx: &mut Context<'_>) -> Poll<io::Result<i32>> {
        self.source
            .poll_run(Direction::Read, cx, || self.shared.take())
            .map_ok(|signal| signal.0)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for action in self.actions.drain(..) {
            signal_hook_registry::unregister(action);
        }
    }
}

impl Shared {
    /// Runs in the handler.
    fn note(&self, signal: c_int) {
        // Release pairs with the acquire of `take`; the bell rings after it.
        self.pending.fetch_or(1 << (signal - 1), Ordering::Release);
        self.bell.ring();
    }

    /// # Errors
    /// `WouldBlock` when none came.
    fn take(&self) -> io::Result<Whole<i32>> {
        loop {
            let pending = self.pending.load(Ordering::Acquire);
            if pending != 0 {
                let first = pending.trailing_zeros();
                // Another waiter may have taken it: then look again.
                if self.pending.fetch_and(!(1 << first), Ordering::AcqRel) & (1 << first) != 0 {
                    return Ok(Whole(first as i32 + 1));
                }
            } else if !self.bell.silence() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // It rang: what was noted before is there now.
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}
