//! A client's side of a conversation with an echo server: whatever comes back must be what was sent, up to where one
//! of the two sides gave up.

use crate::common::Rng;
use crate::connections::{Sockets, Stream};
use crate::servers::is_gone;
use crate::storm::{add, short};
use roving_runtime::is_cancelled;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

/// One side of a conversation: what it says is known by its key, so that what it hears can be checked.
pub(crate) struct Client<'a> {
    pub(crate) stream: Arc<Stream>,
    pub(crate) books: &'a Sockets,
    pub(crate) key: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// What the byte at this place is.
fn byte(key: u64, at: u64) -> u8 {
    ((key ^ at).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// How a client's call ended, when it did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The fiber was cancelled.
    Cancelled,
    /// The server gave up.
    CutShort,
    /// The stream was closed on this side.
    Closed,
}

pub(crate) fn stopped(error: &io::Error) -> Stopped {
    match error.raw_os_error() {
        _ if is_cancelled(error) => Stopped::Cancelled,
        _ if is_gone(error) => Stopped::CutShort,
        Some(libc::EBADF) => Stopped::Closed,
        _ => panic!("a client reads or writes: {error}"),
    }
}

impl Client<'_> {
    pub(crate) fn send(&mut self, count: u64) -> Result<(), Stopped> {
        let data: Vec<u8> = (self.sent..self.sent + count)
            .map(|at| byte(self.key, at))
            .collect();
        let mut sent = 0;
        let outcome = self.stream.send_all(&data, &mut sent);
        self.sent += sent;
        add(&self.books.sent, sent);
        outcome.map_err(|error| stopped(&error))
    }

    /// What comes next, at most so much; false at the end.
    pub(crate) fn recv(&mut self, most: u64) -> Result<bool, Stopped> {
        let mut buf = [0; 2048];
        let size = most.min(buf.len() as u64) as usize;
        let count = match self.stream.read(&mut buf[..size]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(true),
            Err(error) => return Err(stopped(&error)),
        };
        for (at, &heard) in (self.received..).zip(&buf[..count]) {
            assert_eq!(heard, byte(self.key, at), "what came back is not what was sent");
        }
        self.received += count as u64;
        add(&self.books.received, count as u64);
        Ok(count > 0)
    }

    /// Reads until all that was sent has come back.
    pub(crate) fn catch_up(&mut self) -> Result<(), Stopped> {
        while self.received < self.sent {
            if !self.recv(self.sent - self.received)? {
                return Err(Stopped::CutShort);
            }
        }
        Ok(())
    }

    pub(crate) fn rounds(&mut self, rng: &mut Rng) -> Result<(), Stopped> {
        for _ in 0..rng.below(6) {
            if rng.below(3) == 0 {
                let timeout = (rng.below(2) == 0).then(|| short(rng) + Duration::from_micros(1));
                match self.stream.set_read_timeout(timeout) {
                    Ok(()) => {}
                    Err(error) => return Err(stopped(&error)),
                }
            }
            let most = 1 << rng.below(14);
            self.send(rng.below(most))?;
            self.catch_up()?;
        }
        Ok(())
    }

    /// One of the ways in which a conversation ends when both sides are there.
    pub(crate) fn part(mut self, rng: &mut Rng) -> Result<(), Stopped> {
        match rng.below(6) {
            0 | 1 => {
                // Half closed: the server says nothing more, and ends it.
                if self.stream.shutdown(Shutdown::Write).is_err() {
                    return Err(Stopped::CutShort);
                }
                while self.recv(1)? {}
                assert_eq!(self.received, self.sent, "no echo of nothing");
            }
            2 => {
                self.stream.close();
                assert_eq!(self.send(1), Err(Stopped::Closed));
                assert_eq!(self.recv(1), Err(Stopped::Closed));
            }
            3 => {
                // Something is still under way.
                self.send(1 + rng.below(100))?;
            }
            _ => {}
        }
        Ok(())
    }
}
