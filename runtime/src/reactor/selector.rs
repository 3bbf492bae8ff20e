//! The poll itself: mio's, with an alarm in it.

use super::alarm::Alarm;
use super::readiness::{Direction, Event};
use super::seat::{Found, Selector};
use super::table;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

// No descriptor has these numbers in the lower half: see `Key`.
const WAKE: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);
/// Events of one look. More wait for the next, so that a flood of them cannot keep a worker from its fibers.
const BUDGET: usize = 256;

/// Which record an event is for: a descriptor's number and the generation of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) fd: RawFd,
    pub(super) generation: u32,
}

const _: () = assert!(usize::BITS == 64, "a token holds a descriptor and a generation");

impl Key {
    fn token(self) -> Token {
        Token((self.generation as usize) << 32 | self.fd as u32 as usize)
    }

    fn of(token: Token) -> Self {
        Self {
            fd: token.0 as u32 as RawFd,
            generation: (token.0 >> 32) as u32,
        }
    }
}

/// The directions a descriptor is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interests(Interest);

impl Interests {
    /// `urgent`: of urgent data too, when it is for reading.
    pub(super) fn of(direction: Direction, urgent: bool) -> Self {
        Self(match direction {
            Direction::Read if urgent => Interest::READABLE | Interest::PRIORITY,
            Direction::Read => Interest::READABLE,
            Direction::Write => Interest::WRITABLE,
        })
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A poll, as those see it that watch descriptors with it.
pub(super) struct Watcher(Registry);

impl Watcher {
    pub(super) fn add(&self, key: Key, interests: Interests) -> io::Result<()> {
        self.0.register(&mut SourceFd(&key.fd), key.token(), interests.0)
    }

    /// Also reports what is ready already, once more.
    pub(super) fn change(&self, key: Key, interests: Interests) -> io::Result<()> {
        self.0
            .reregister(&mut SourceFd(&key.fd), key.token(), interests.0)
    }

    pub(super) fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.0.deregister(&mut SourceFd(&fd))
    }
}

pub(super) struct PollSelector {
    poll: Poll,
    events: Events,
    alarm: Alarm,
}

impl PollSelector {
    pub(super) fn new() -> io::Result<(Self, Waker, Watcher)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let watcher = Watcher(poll.registry().try_clone()?);
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        Ok((
            Self {
                poll,
                events: Events::with_capacity(BUDGET),
                alarm,
            },
            waker,
            watcher,
        ))
    }

    /// Ends the next wait at `deadline`.
    pub(super) fn set_alarm(&mut self, deadline: Instant) {
        self.alarm
            .set(deadline, Instant::now())
            .unwrap_or_else(|error| broken("set an alarm", &error));
    }
}

impl Selector for PollSelector {
    fn select(&mut self, timeout: Option<Duration>, found: &mut Found) {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            // A signal: whoever handles it wants the worker to look around.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(error) => broken("poll", &error),
        }
        for event in &self.events {
            match event.token() {
                WAKE => found.woken = true,
                // The timers are looked at after every poll.
                ALARM => {}
                token => {
                    // An event of a descriptor that was closed meanwhile finds no record, or one of
                    // another generation: nobody is woken.
                    if let Some(record) = table::get(Key::of(token)) {
                        record.notify(translate(event), &mut found.wakes);
                    }
                }
            }
        }
    }
}

fn translate(event: &mio::event::Event) -> Event {
    let (read_closed, write_closed) = (event.is_read_closed(), event.is_write_closed());
    // An error concerns both: the next call, whichever it is, reports it.
    Event {
        read: event.is_readable() || read_closed || event.is_error(),
        write: event.is_writable() || write_closed || event.is_error(),
        read_closed,
        write_closed,
        urgent: event.is_priority(),
    }
}

/// The calls on our own poll, eventfd and timerfd do not fail but for a bug of ours: nobody could be woken
/// any more.
#[cold]
pub(super) fn broken(what: &str, error: &io::Error) -> ! {
    panic!("roving: internal error: could not {what}: {error}")
}
