//! The thread that waits: for other processes' commits, for due times, for the deaths of others' workers.
//!
//! Commits elsewhere are noticed through inotify on the write-ahead log, which every commit writes to and which stays
//! where it is while anybody has the database open: soon, and with no wake-up while nothing happens. What then
//! happened is asked of SQLite (`data_version`) by the writer, at most every [`PAUSE`]. Should the system have no inotify instance left,
//! `data_version` is polled. Due times are absolute times of a timerfd, which tells when the clock is set.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::Shared;
use super::workers;
use crate::api::Done;
use crate::change::Change;
use crate::error::Error;

/// Commits of others are looked at so often at most.
const PAUSE: Duration = Duration::from_millis(5);
/// A look that failed (the disk, a lock that somebody keeps) is made again after so long.
const AGAIN: Duration = Duration::from_millis(500);
/// Where there is no inotify, `data_version` is polled so often.
const POLL: Duration = Duration::from_millis(50);
/// Locks of other processes' workers are tried so often; there is nothing to be told by when one is given back.
const PEERS: Duration = Duration::from_secs(1);
/// Finished jobs are pruned so often at most.
const PRUNE: Duration = Duration::from_secs(1);

/// Times to wait for, in milliseconds; `i64::MAX` is never.
#[derive(Clone, Copy)]
struct Times {
    /// A job is due, by the wall clock.
    due: i64,
    /// A finished job is over, by the wall clock.
    prune: i64,
    /// A limit has room again, by the steady clock.
    room: i64,
}

const NEVER: Times = Times {
    due: i64::MAX,
    prune: i64::MAX,
    room: i64::MAX,
};

#[derive(Default)]
struct Rung {
    closed: bool,
    elsewhere: bool,
    look_again: bool,
}

/// How the writer tells the thread of something.
pub(super) struct Bell {
    event: File,
    rung: Mutex<(Rung, Times)>,
}

impl Bell {
    pub(super) fn new() -> Result<Self, Error> {
        // SAFETY: no memory is involved.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        Ok(Bell {
            event: own(event)?,
            rung: Mutex::new((Rung::default(), NEVER)),
        })
    }

    fn ring(&self) {
        // Full means rung.
        let _ = (&self.event).write_all(&1u64.to_ne_bytes());
    }

    fn with<T>(&self, change: impl FnOnce(&mut Rung, &mut Times) -> T) -> T {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (rung, times) = &mut *rung;
        change(rung, times)
    }

    /// A commit of our own, with the times that it brings. Rings only for one that is earlier than what is waited for.
    pub(super) fn committed(&self, due: Option<i64>, prune: Option<i64>, room: Option<i64>, elsewhere: bool) {
        if due.is_none() && prune.is_none() && room.is_none() && !elsewhere {
            return;
        }
        let earlier = |known: &mut i64, new: Option<i64>| {
            let new = new.unwrap_or(i64::MAX);
            let is_earlier = new < *known;
            *known = new.min(*known);
            is_earlier
        };
        let ring = self.with(|rung, times| {
            rung.elsewhere |= elsewhere;
            // All three, each with its own effect.
            earlier(&mut times.due, due)
                | earlier(&mut times.prune, prune)
                | earlier(&mut times.room, room)
                | elsewhere
        });
        if ring {
            self.ring();
        }
    }

    pub(super) fn close(&self) {
        self.with(|rung, _| rung.closed = true);
        self.ring();
    }
}

fn own(descriptor: RawFd) -> Result<File, Error> {
    if descriptor < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Error::Open(format!("no descriptor to wait with: {error}")));
    }
    // SAFETY: the descriptor was just made, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

/// What the thread has.
pub(super) struct Watcher {
    shared: Arc<Shared>,
    connection: Connection,
    log: Option<File>,
    timer: File,
    seen_version: i64,
    next_peers: Option<Instant>,
    last_prune: Option<Instant>,
}

impl Watcher {
    pub(super) fn new(shared: Arc<Shared>, connection: Connection) -> Result<Self, Error> {
        // SAFETY: no memory is involved.
        let timer =
            unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        Ok(Watcher {
            log: watch_log(&shared.path),
            shared,
            connection,
            timer: own(timer)?,
            seen_version: -1,
            next_peers: None,
            last_prune: None,
        })
    }

    /// The thread's work, until the store is closed.
    pub(super) fn run(mut self) -> Connection {
        self.look_around();
        let mut looked = Instant::now();
        let mut touched = false;
        let mut gap = PAUSE;
        loop {
            let pause = gap.saturating_sub(looked.elapsed());
            if touched && pause.is_zero() {
                (touched, gap) = (false, PAUSE);
                looked = Instant::now();
                self.look_for_commits();
            }
            let until = if touched { Some(pause) } else { None };
            touched |= self.wait(until);
            let rung = self.shared.bell.with(|rung, _| std::mem::take(rung));
            if rung.closed {
                return self.connection;
            }
            if rung.look_again {
                (touched, gap) = (true, AGAIN);
            }
            if rung.elsewhere {
                self.changed_elsewhere();
            }
            self.keep_time();
            if self.next_peers.is_some_and(|at| at <= Instant::now()) {
                self.look_at_peers();
            }
        }
    }

    /// Waits for anything; true if the log was written to, or may have been.
    fn wait(&mut self, at_most: Option<Duration>) -> bool {
        let now = Instant::now();
        let mut timeout = at_most;
        let mut limit =
            |duration: Duration| timeout = Some(timeout.map_or(duration, |timeout| timeout.min(duration)));
        if let Some(peers) = self.next_peers {
            limit(peers.saturating_duration_since(now));
        }
        if self.log.is_none() && at_most.is_none() {
            limit(POLL);
        }
        if self.shared.settings.clock.moves() {
            let times = self.shared.bell.with(|_, times| *times);
            if times.room < i64::MAX {
                let steady = self.shared.settings.clock.steady();
                limit(Duration::from_millis(
                    times.room.saturating_sub(steady).max(0) as u64
                ));
            }
            let prune_from = self.last_prune.map_or(0, |last| {
                let rest = (last + PRUNE).saturating_duration_since(now);
                self.shared.settings.clock.wall() + rest.as_millis() as i64
            });
            let prune = if times.prune < i64::MAX {
                times.prune.max(prune_from)
            } else {
                i64::MAX
            };
            self.arm(times.due.min(prune));
        }
        let log = self.log.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let wanted = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // While a look is held back, more writes are no news.
        let log = if at_most.is_some() { -1 } else { log };
        let mut polled = [
            wanted(self.shared.bell.event.as_raw_fd()),
            wanted(self.timer.as_raw_fd()),
            wanted(log),
        ];
        let milliseconds = timeout.map_or(-1, |timeout| {
            timeout.as_micros().div_ceil(1000).min(1 << 30) as libc::c_int
        });
        // SAFETY: the array is ours and has three entries.
        unsafe { libc::poll(polled.as_mut_ptr(), 3, milliseconds) };
        let mut buffer = [0; 4096];
        if polled[0].revents != 0 {
            let _ = (&self.shared.bell.event).read(&mut buffer[..8]);
        }
        if polled[1].revents != 0
            && let Err(error) = self.timer.read(&mut buffer[..8])
            && error.raw_os_error() == Some(libc::ECANCELED)
        {
            // The clock was set: what is due is another matter now.
            self.refresh_times();
            self.shared.listeners.tell(&Change::Ready);
        }
        if polled[2].revents != 0
            && let Some(log) = &mut self.log
        {
            let _ = log.read(&mut buffer);
            return true;
        }
        self.log.is_none() && at_most.is_none()
    }

    fn arm(&self, wall: i64) {
        let mut when = libc::itimerspec {
            it_interval: libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
        };
        if wall < i64::MAX {
            // Zero would disarm it.
            let wall = wall.max(1);
            when.it_value = libc::timespec {
                tv_sec: wall / 1000,
                tv_nsec: wall % 1000 * 1_000_000,
            };
        }
        let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
        // SAFETY: the timer is open, the time ours, and the old one not asked for.
        unsafe {
            libc::timerfd_settime(
                self.timer.as_raw_fd(),
                flags,
                &raw const when,
                std::ptr::null_mut(),
            )
        };
    }

    /// Does what it is time for.
    fn keep_time(&mut self) {
        let clock = &self.shared.settings.clock;
        if !clock.moves() {
            return;
        }
        let (wall, steady) = (clock.wall(), clock.steady());
        let times = self.shared.bell.with(|_, times| *times);
        let due = times.due <= wall;
        let prune = times.prune <= wall && self.last_prune.is_none_or(|last| last.elapsed() >= PRUNE);
        if times.room <= steady {
            self.shared.bell.with(|_, times| times.room = i64::MAX);
        }
        // Asked before anybody is told: what gets due between the two is claimed, or pruned, by those who are told. The
        // other way round nobody would be told of it.
        if due || prune {
            self.refresh_times();
        }
        if due || times.room <= steady {
            self.shared.listeners.tell(&Change::Ready);
        }
        if prune {
            self.last_prune = Some(Instant::now());
            self.shared.prune(Box::new(|_| ()));
        }
    }

    /// Asks the database what to wait for. What is due already was told of, and is claimed when somebody claims.
    fn refresh_times(&self) {
        let wall = self.shared.settings.clock.wall();
        self.shared
            .bell
            .with(|_, times| (times.due, times.prune) = (i64::MAX, i64::MAX));
        let ask = |sql: &str| {
            let asked = self
                .connection
                .prepare_cached(sql)
                .and_then(|mut next| next.query_row([wall], |row| row.get::<_, Option<i64>>(0)));
            match asked {
                Ok(time) => time.unwrap_or(i64::MAX),
                // What cannot be read now is asked for again.
                Err(_) => wall + AGAIN.as_millis() as i64,
            }
        };
        let due: i64 = ask("SELECT min(eta) FROM jobs WHERE status = 1 AND eta > ?");
        let prune: i64 = ask("SELECT min(keep_until) FROM jobs WHERE keep_until > ?");
        let keys: i64 = ask("SELECT min(keep_until) FROM once WHERE keep_until > ?");
        self.shared.bell.with(|_, times| {
            // What the writer told of meanwhile stays.
            times.due = times.due.min(due);
            times.prune = times.prune.min(prune).min(keys);
        });
    }

    /// Has the writer look. A commit shows only some time after it was written to the log, when it is on disk: a look from
    /// here may come too soon, and nothing would tell of it later. The writer's empty transaction begins when whoever
    /// writes now is through.
    fn look_for_commits(&mut self) {
        if self.log.is_none() {
            // Polled: here a commit that does not show yet is seen the next time.
            let Some(version) = self.version() else { return };
            if std::mem::replace(&mut self.seen_version, version) == version {
                return;
            }
        }
        let shared = Arc::downgrade(&self.shared);
        let told: Done<()> = Box::new(move |looked| {
            if looked.is_err()
                && let Some(shared) = shared.upgrade()
            {
                shared.bell.with(|rung, _| rung.look_again = true);
                shared.bell.ring();
            }
        });
        self.shared.inbox.submit(|_| Ok(Ok(())), told);
    }

    fn version(&self) -> Option<i64> {
        let mut version = self.connection.prepare_cached("PRAGMA data_version").ok()?;
        version.query_row((), |row| row.get(0)).ok()
    }

    fn look_around(&mut self) {
        self.seen_version = self.version().unwrap_or(-1);
        self.refresh_times();
        self.shared.prune(Box::new(|_| ()));
        self.last_prune = Some(Instant::now());
        self.look_at_peers();
    }

    fn changed_elsewhere(&mut self) {
        self.refresh_times();
        let ours = self.shared.ours();
        if let Ok(cancels) = workers::cancels(&self.connection, &ours)
            && !cancels.is_empty()
        {
            self.shared.listeners.tell(&Change::CancelRequested(cancels));
        }
        if self.next_peers.is_none() {
            self.look_at_peers();
        }
        self.shared.listeners.tell(&Change::Elsewhere);
    }

    fn look_at_peers(&mut self) {
        let ours = self.shared.ours();
        // What cannot be read now is looked at again.
        let liveness = self.shared.current_liveness().ok();
        let looked = liveness.and_then(|liveness| workers::look(&self.connection, &liveness, &ours).ok());
        let (dead, others) = looked.unwrap_or((false, true));
        self.next_peers = others.then(|| Instant::now() + PEERS);
        if dead {
            self.shared.take_over(Box::new(|_| ()));
        }
    }
}

/// An inotify instance that tells of writes to the log; None where the system has none left.
fn watch_log(database: &Path) -> Option<File> {
    let mut path = PathBuf::from(database).into_os_string();
    path.push("-wal");
    let path = std::ffi::CString::new(path.as_bytes()).ok()?;
    // SAFETY: no memory is involved.
    let log = own(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) }).ok()?;
    // SAFETY: the instance is open and the path a string.
    let watch = unsafe { libc::inotify_add_watch(log.as_raw_fd(), path.as_ptr(), libc::IN_MODIFY) };
    (watch >= 0).then_some(log)
}
