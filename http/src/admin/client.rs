//! One client of the admin listener: its bytes in and out, without ever waiting.

use crate::strict::{Checker, Limits, Refused, Step};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// For a head to come, and for a response to be taken.
const BUSY: Duration = Duration::from_secs(5);
/// For the next request: longer than the interval at which most are probed or scraped.
const IDLE: Duration = Duration::from_secs(75);

/// Reads and requests of one client in a go: one with more is no probe.
const AT_ONCE: usize = 64;

/// A probe's request has a few hundred bytes.
pub(super) fn limits() -> Limits {
    Limits {
        request_line: 2048,
        fields: 64,
        field_bytes: 16 << 10,
        body: 0,
        ..Limits::default()
    }
    .clamped()
}

/// A connection of either kind, which does not block.
pub(super) trait Stream: Read + Write + AsRawFd + Send {}

impl<S: Read + Write + AsRawFd + Send> Stream for S {}

/// What a request asks for.
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
}

/// What it is answered.
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) kind: &'static str,
    pub(super) body: String,
}

/// What makes answers.
pub(super) type Respond<'a> = &'a dyn Fn(&Asked<'_>) -> Answer;

pub(super) struct Client {
    stream: Box<dyn Stream>,
    checker: Checker,
    received: Vec<u8>,
    /// What is to be sent, and how much of it has been.
    answer: Vec<u8>,
    written: usize,
    /// Nothing follows the answer.
    last: bool,
    pub(super) deadline: Instant,
}

impl Client {
    pub(super) fn new(stream: Box<dyn Stream>, now: Instant) -> Self {
        Self {
            stream,
            checker: Checker::new(&limits()),
            received: Vec::new(),
            answer: Vec::new(),
            written: 0,
            last: false,
            deadline: now + BUSY,
        }
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Whether it is to be written to, and not read from.
    pub(super) fn writes(&self) -> bool {
        !self.answer.is_empty()
    }

    /// Goes as far as it can; whether the connection lives on.
    pub(super) fn advance(&mut self, now: Instant, respond: Respond<'_>) -> bool {
        for _ in 0..AT_ONCE {
            if self.writes() {
                match self.flush() {
                    Ok(true) if self.last => return false,
                    Ok(true) => self.deadline = now + IDLE,
                    Ok(false) => return true,
                    Err(_) => return false,
                }
            }
            match self.take_request(now, respond) {
                Some(true) => continue,
                Some(false) => {}
                None => return false,
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => {
                    if self.received.is_empty() {
                        self.deadline = now + BUSY;
                    }
                    self.received.extend_from_slice(&bytes[..count]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        // It would keep the others waiting.
        false
    }

    /// Sends; whether all has been sent.
    fn flush(&mut self) -> io::Result<bool> {
        while self.written < self.answer.len() {
            match self.stream.write(&self.answer[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.answer.clear();
        self.written = 0;
        Ok(true)
    }

    /// Answers a request if there is a whole one; `None` when no more can come.
    fn take_request(&mut self, now: Instant, respond: Respond<'_>) -> Option<bool> {
        if self.received.is_empty() {
            return Some(false);
        }
        match self.checker.next(&self.received) {
            Ok(Step::More) => Some(false),
            Ok(Step::Head(head)) => {
                let rest = self.received.split_off(head.length.min(self.received.len()));
                let bytes = std::mem::replace(&mut self.received, rest);
                let text = String::from_utf8_lossy(&bytes);
                let mut words = text.trim_start().split([' ', '\r']);
                let method = words.next().unwrap_or("");
                let target = words.next().unwrap_or("");
                let (path, query) = target.split_once('?').unwrap_or((target, ""));
                self.last = !head.keep_alive;
                let answer = respond(&Asked { method, path, query });
                self.put(&answer, method == "HEAD");
                self.deadline = now + BUSY;
                Some(true)
            }
            // Only an empty one is let in.
            Ok(Step::Body { length, .. }) => {
                self.received.drain(..length.min(self.received.len()));
                Some(length != 0)
            }
            Ok(Step::Ended | Step::Http2) => None,
            Err(refused) => {
                self.refuse(&refused);
                Some(true)
            }
        }
    }

    fn refuse(&mut self, refused: &Refused) {
        self.last = true;
        self.received.clear();
        self.answer = crate::strict::response(refused.fault, false);
    }

    fn put(&mut self, answer: &Answer, head_only: bool) {
        let Answer { status, kind, body } = answer;
        let date = crate::strict::date();
        let length = body.len();
        let close = if self.last { "connection: close\r\n" } else { "" };
        let allow = if status.starts_with("405") {
            "allow: GET, HEAD\r\n"
        } else {
            ""
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ndate: {date}\r\ncontent-type: {kind}\r\ncache-control: no-store\r\n\
             content-length: {length}\r\n{allow}{close}\r\n"
        );
        self.answer = head.into_bytes();
        if !head_only {
            self.answer.extend_from_slice(body.as_bytes());
        }
    }
}
