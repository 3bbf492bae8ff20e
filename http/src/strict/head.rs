//! Heads, line by line as they come: a line is looked at once, when its LF is there.

use super::fault::Fault;
use super::fields::{Fields, Meaning};
use super::limits::Limits;
use super::table::{is_token, span};
use super::target::check_target;
use super::{Framing, Version};
use std::ops::Range;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A whole head that may be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// How many bytes it has, with empty lines before it.
    pub length: usize,
    /// Its version.
    pub version: Version,
    /// How its body is framed.
    pub framing: Framing,
    /// The connection may carry a further request after this one, as far as the client is concerned.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
}

/// What became of the bytes of a head.
pub(super) enum Scan {
    /// They are not all there yet.
    More,
    Head(Head),
    /// The whole preface of HTTP/2.
    Http2,
}

/// How far a head has come. Offsets count from its first byte that was not passed on.
#[derive(Debug, Clone, Default)]
pub(super) struct Heads {
    /// Where the present line begins.
    line: usize,
    /// Up to where no LF is to be found from there.
    scanned: usize,
    empty_lines: usize,
    request: Option<RequestLine>,
    /// Where the fields begin.
    fields_start: usize,
    field_count: usize,
    fields: Fields,
}

#[derive(Debug, Clone)]
struct RequestLine {
    version: Version,
    authority: Option<Range<usize>>,
}

impl Heads {
    /// Where the line begins that is, or would be, at fault.
    pub(super) fn line_start(&self) -> usize {
        self.line
    }

    /// Whether more than empty lines has come, of `held` bytes.
    pub(super) fn has_begun(&self, held: &[u8]) -> bool {
        // An unfinished line of a CR may be an empty one.
        self.request.is_some() || !matches!(held.get(self.line..), None | Some([] | [b'\r']))
    }

    /// Looks at the lines that are there. `bytes` begin where the head does, in every call. HTTP/2's preface may pass, or not.
    pub(super) fn scan(&mut self, bytes: &[u8], limits: &Limits, http2: bool) -> Result<Scan, Fault> {
        loop {
            if self.request.is_none() && bytes.starts_with(b"PRI * HTTP/2.0\r\n") {
                return match http2 {
                    true if bytes.starts_with(PREFACE) => Ok(Scan::Http2),
                    true if PREFACE.starts_with(bytes) => Ok(Scan::More),
                    true => Err(Fault::Http2Preface),
                    false => Err(Fault::Http2),
                };
            }
            let feed = bytes
                .get(self.scanned..)
                .and_then(|new| memchr::memchr(b'\n', new))
                .map(|at| self.scanned + at);
            let end = feed.unwrap_or(bytes.len());
            self.check_size(&bytes[..end], limits)?;
            let Some(feed) = feed else {
                self.scanned = end;
                return Ok(Scan::More);
            };
            let [line @ .., b'\r'] = &bytes[self.line..feed] else {
                return Err(Fault::BareLf);
            };
            match &self.request {
                None if line.is_empty() => {
                    self.empty_lines += 1;
                    if self.empty_lines > limits.empty_lines {
                        return Err(Fault::EmptyLines);
                    }
                }
                None => {
                    self.request = Some(request_line(line, self.line, limits)?);
                    self.fields_start = feed + 1;
                }
                Some(request) if line.is_empty() => {
                    let authority = request.authority.clone().map(|range| &bytes[range]);
                    let Meaning {
                        framing,
                        keep_alive,
                        expect_continue,
                    } = self.fields.finish(request.version, authority, bytes)?;
                    return Ok(Scan::Head(Head {
                        length: feed + 1,
                        version: request.version,
                        framing,
                        keep_alive,
                        expect_continue,
                    }));
                }
                Some(_) => {
                    self.field_count += 1;
                    if self.field_count > limits.fields {
                        return Err(Fault::FieldCount);
                    }
                    self.fields.line(line, self.line, limits)?;
                }
            }
            self.line = feed + 1;
            self.scanned = feed + 1;
        }
    }

    /// What can be said of a line whether it is whole or not. The answer is the same either way, wherever the bytes happen
    /// to be cut.
    fn check_size(&self, bytes: &[u8], limits: &Limits) -> Result<(), Fault> {
        let line = &bytes[self.line..];
        if self.request.is_some() {
            // With its LF, which may not be there yet but must come. The empty line at the end is no field.
            let length = bytes.len() + 1 - self.fields_start;
            if length > limits.field_bytes && !matches!(line, [] | [b'\r']) {
                return Err(Fault::FieldBytes);
            }
            return Ok(());
        }
        match line {
            [] | [b'\r', ..] => {}
            // Nothing to wait for: a handshake may well have no LF in it.
            [0x16, ..] => return Err(Fault::Tls),
            [first, ..] if !is_token(*first) => return Err(Fault::Method),
            _ => {}
        }
        let length = line.len() - usize::from(line.last() == Some(&b'\r'));
        if length > limits.request_line {
            return Err(Fault::RequestLineLength);
        }
        Ok(())
    }
}

/// `line` begins at `offset` of the head.
fn request_line(line: &[u8], offset: usize, limits: &Limits) -> Result<RequestLine, Fault> {
    if line.contains(&b'\r') {
        return Err(Fault::BareCr);
    }
    let method = &line[..span(line, is_token)];
    if method.len() > limits.method {
        return Err(Fault::MethodLength);
    }
    let [b' ', rest @ ..] = &line[method.len()..] else {
        return Err(match line.get(method.len()) {
            None => Fault::RequestLine,
            Some(_) => Fault::Method,
        });
    };
    let length = span(rest, |byte| byte != b' ');
    let (target, rest) = rest.split_at(length);
    let [b' ', version @ ..] = rest else {
        // "GET /" is HTTP/0.9.
        return Err(Fault::RequestLine);
    };
    if target.is_empty() || version.first() == Some(&b' ') || version.last() == Some(&b' ') {
        return Err(Fault::RequestLine);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Fault::VersionUnknown);
        }
        _ if version.contains(&b' ') => return Err(Fault::RequestLine),
        _ => return Err(Fault::Version),
    };
    let start = offset + method.len() + 1;
    let authority = check_target(method, target)?.map(|range| start + range.start..start + range.end);
    Ok(RequestLine { version, authority })
}
