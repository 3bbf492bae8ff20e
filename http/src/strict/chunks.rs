//! The chunked coding (RFC 9112, 7.1), byte by byte: what is right so far may be passed on.

use super::fault::Fault;
use super::fields::split_field;
use super::limits::Limits;
use super::table::{has_control, is_quotable, is_quoted, is_token};

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A chunk's size: its first digit.
    FirstDigit,
    /// A further digit, or the end of the size.
    Digit,
    /// After white space, which only an extension may follow ("bad white space", RFC 9110, 5.6.3).
    Semicolon,
    /// White space or the first byte of an extension's name.
    Name,
    /// More of the name, or its end.
    NameRest,
    /// After white space behind the name: `=` or the next extension.
    Equals,
    /// White space or the first byte of the value.
    Value,
    /// More of a token, or its end.
    Token,
    /// More of a quoted string, or its end.
    Quoted,
    /// What a backslash quotes.
    Escaped,
    /// After a quoted string.
    ValueEnd,
    /// The LF of a line with a size.
    LineFeed,
    /// Bytes of a chunk, as many as are left.
    Data,
    /// The CR after a chunk.
    DataCr,
    /// The LF after a chunk.
    DataLf,
    /// A line of the trailer section, or the empty line that ends it. Lines are passed on whole.
    Trailer,
    /// Nothing: the empty line after the trailers has come.
    Over,
}

/// How far a chunked body has come.
#[derive(Debug, Clone)]
pub(super) struct Chunks {
    next: Next,
    /// The present chunk's size, later what is left of it.
    size: u64,
    /// The sizes of all chunks so far.
    total: u64,
    /// Bytes of the present line with a size.
    line: usize,
    /// Bytes of all extensions.
    extensions: usize,
    /// Lines of the trailer section.
    trailer_fields: usize,
    /// Bytes of the trailer section that were passed on.
    trailer_bytes: usize,
    /// Bytes of the present trailer line that came and have no LF among them.
    scanned: usize,
}

/// What became of some bytes.
pub(super) struct Advance {
    /// How many may be passed on.
    pub(super) pass: usize,
    /// The body is over with them.
    pub(super) end: bool,
    /// What is wrong behind them.
    pub(super) fault: Option<Fault>,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self {
            next: Next::FirstDigit,
            size: 0,
            total: 0,
            line: 0,
            extensions: 0,
            trailer_fields: 0,
            trailer_bytes: 0,
            scanned: 0,
        }
    }

    /// Goes through bytes that were not passed on yet. After a fault it must not be called again.
    pub(super) fn advance(&mut self, bytes: &[u8], limits: &Limits) -> Advance {
        let mut pass = 0;
        while pass < bytes.len() {
            let rest = &bytes[pass..];
            let step = match self.next {
                Next::Data => Ok(self.data(rest)),
                Next::Trailer => match self.trailer(rest, limits) {
                    // A part of a line: it is held back.
                    Ok(0) => break,
                    other => other,
                },
                _ => self.byte(rest[0], limits).map(|()| 1),
            };
            match step {
                Ok(count) => pass += count,
                Err(fault) => {
                    return Advance {
                        pass,
                        end: false,
                        fault: Some(fault),
                    };
                }
            }
            if self.next == Next::Over {
                return Advance {
                    pass,
                    end: true,
                    fault: None,
                };
            }
        }
        Advance {
            pass,
            end: false,
            fault: None,
        }
    }

    fn data(&mut self, rest: &[u8]) -> usize {
        let count = usize::try_from(self.size).map_or(rest.len(), |size| size.min(rest.len()));
        self.size -= count as u64;
        if self.size == 0 {
            self.next = Next::DataCr;
        }
        count
    }

    /// A byte of a line with a size, or of the CRLF after a chunk.
    fn byte(&mut self, byte: u8, limits: &Limits) -> Result<(), Fault> {
        self.next = match (self.next, byte) {
            (Next::DataCr, b'\r') => Next::DataLf,
            (Next::DataLf, b'\n') => {
                self.line = 0;
                Next::FirstDigit
            }
            (Next::DataCr | Next::DataLf, _) => return Err(Fault::ChunkEnd),
            (Next::LineFeed, b'\n') => return self.line_end(limits),
            (Next::LineFeed, _) => return Err(Fault::BareCr),
            (_, b'\n') => return Err(Fault::BareLf),
            (Next::Digit | Next::NameRest | Next::Token | Next::ValueEnd, b'\r') => Next::LineFeed,
            (now, byte) => {
                self.line += 1;
                if self.line > limits.chunk_line {
                    return Err(Fault::ChunkLine);
                }
                match now {
                    Next::FirstDigit | Next::Digit => self.size_byte(now, byte)?,
                    _ => self.extension_byte(now, byte, limits)?,
                }
            }
        };
        Ok(())
    }

    fn size_byte(&mut self, now: Next, byte: u8) -> Result<Next, Fault> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b';' if now == Next::Digit => return Ok(Next::Name),
            b' ' | b'\t' if now == Next::Digit => return Ok(Next::Semicolon),
            _ => return Err(Fault::ChunkSize),
        };
        self.size = self.size.checked_mul(16).ok_or(Fault::ChunkOverflow)? + u64::from(digit);
        Ok(Next::Digit)
    }

    fn extension_byte(&mut self, now: Next, byte: u8, limits: &Limits) -> Result<Next, Fault> {
        self.extensions += 1;
        if self.extensions > limits.chunk_extensions {
            return Err(Fault::ChunkExtensions);
        }
        let space = matches!(byte, b' ' | b'\t');
        Ok(match (now, byte) {
            (Next::Semicolon | Next::Name | Next::Equals | Next::Value, _) if space => now,
            (Next::NameRest, _) if space => Next::Equals,
            (Next::Token | Next::ValueEnd, _) if space => Next::Semicolon,
            (Next::Semicolon | Next::NameRest | Next::Equals | Next::Token | Next::ValueEnd, b';') => {
                Next::Name
            }
            (Next::NameRest | Next::Equals, b'=') => Next::Value,
            (Next::Name | Next::NameRest, byte) if is_token(byte) => Next::NameRest,
            (Next::Value | Next::Token, byte) if is_token(byte) => Next::Token,
            (Next::Value, b'"') => Next::Quoted,
            (Next::Quoted, b'"') => Next::ValueEnd,
            (Next::Quoted, b'\\') => Next::Escaped,
            (Next::Quoted, byte) if is_quoted(byte) => Next::Quoted,
            (Next::Escaped, byte) if is_quotable(byte) => Next::Quoted,
            _ => return Err(Fault::ChunkExtension),
        })
    }

    fn line_end(&mut self, limits: &Limits) -> Result<(), Fault> {
        self.total = self
            .total
            .checked_add(self.size)
            .filter(|&total| total <= limits.body)
            .ok_or(Fault::ChunkLimit)?;
        self.next = match self.size {
            0 => Next::Trailer,
            _ => Next::Data,
        };
        Ok(())
    }

    /// A line of the trailer section: how many bytes it has, or none where it is not whole yet.
    fn trailer(&mut self, rest: &[u8], limits: &Limits) -> Result<usize, Fault> {
        let feed = memchr::memchr(b'\n', &rest[self.scanned..]).map(|at| self.scanned + at);
        let length = feed.map_or(rest.len(), |feed| feed + 1);
        // hyper counts the CRLF of the empty line too.
        if self.trailer_bytes + length > limits.trailer_bytes {
            return Err(Fault::TrailerBytes);
        }
        let Some(feed) = feed else {
            self.scanned = rest.len();
            return Ok(0);
        };
        self.scanned = 0;
        self.trailer_bytes += length;
        let [line @ .., b'\r'] = &rest[..feed] else {
            return Err(Fault::BareLf);
        };
        if line.is_empty() {
            self.next = Next::Over;
            return Ok(length);
        }
        self.trailer_fields += 1;
        if self.trailer_fields > limits.trailer_fields {
            return Err(Fault::TrailerCount);
        }
        let (name, value) = split_field(line)?;
        if has_control(value) {
            return Err(match value.contains(&b'\r') {
                true => Fault::BareCr,
                false => Fault::FieldValue,
            });
        }
        if belongs_in_the_head(name) {
            return Err(Fault::TrailerField);
        }
        Ok(length)
    }
}

/// Fields that frame, route, authenticate or describe the content (RFC 9110, 6.5.1): whoever merges trailers into the head
/// must not find them there.
fn belongs_in_the_head(name: &[u8]) -> bool {
    [
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "max-forwards",
        "pragma",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
    .iter()
    .any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
}
