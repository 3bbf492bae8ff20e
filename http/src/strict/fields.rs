//! Field lines, and the few fields whose values say how a message is framed and whom it is for.

use super::fault::Fault;
use super::limits::Limits;
use super::table::{has_control, is_token, span, trim};
use super::target::is_authority;
use super::{Framing, Version};
use std::ops::Range;

/// Splits a field line into its name and its value, the latter without white space around it. Neither is looked into.
pub(super) fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let length = span(line, is_token);
    match &line[length..] {
        [b':', value @ ..] if length > 0 => Ok((&line[..length], trim(value))),
        [b' ' | b'\t', ..] if length == 0 => Err(Fault::Fold),
        [b' ' | b'\t', rest @ ..] if trim(rest).first() == Some(&b':') => Err(Fault::SpaceBeforeColon),
        _ if line.contains(&b'\r') => Err(Fault::BareCr),
        _ => Err(Fault::FieldName),
    }
}

/// What the fields of a head have said so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expect_continue: bool,
}

/// What they say all together.
pub(super) struct Meaning {
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) expect_continue: bool,
}

impl Fields {
    /// Takes in a line, without its CRLF, that begins at `offset` of the head.
    pub(super) fn line(&mut self, line: &[u8], offset: usize, limits: &Limits) -> Result<(), Fault> {
        let (name, value) = split_field(line)?;
        if has_control(value) {
            return Err(match value.contains(&b'\r') {
                true => Fault::BareCr,
                false => Fault::FieldValue,
            });
        }
        // By length first: most names are none of these.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host.is_some() {
                    return Err(Fault::HostTwice);
                }
                if !is_authority(value) {
                    return Err(Fault::Host);
                }
                let start = offset + name.len() + 1 + leading(&line[name.len() + 1..]);
                self.host = Some(start..start + value.len());
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if self.expect_continue || !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Fault::Expect);
                }
                self.expect_continue = true;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection(value)?,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Fault::LengthTwice);
                }
                self.length = Some(content_length(value, limits)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked {
                    return Err(Fault::CodingTwice);
                }
                transfer_encoding(value)?;
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Fault> {
        for option in value.split(|&byte| byte == b',').map(trim) {
            if !option.iter().all(|&byte| is_token(byte)) {
                return Err(Fault::Connection);
            }
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
        Ok(())
    }

    /// Takes them all together, at the end of a head.
    pub(super) fn finish(
        &self,
        version: Version,
        authority: Option<&[u8]>,
        head: &[u8],
    ) -> Result<Meaning, Fault> {
        match (&self.host, authority) {
            (None, _) if version == Version::Http11 => return Err(Fault::HostMissing),
            (Some(host), Some(authority)) if !head[host.clone()].eq_ignore_ascii_case(authority) => {
                return Err(Fault::HostOther);
            }
            _ => {}
        }
        let framing = match (self.chunked, self.length) {
            (true, Some(_)) => return Err(Fault::CodingAndLength),
            (true, None) if version == Version::Http10 => return Err(Fault::CodingVersion),
            (true, None) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::Empty,
        };
        Ok(Meaning {
            framing,
            keep_alive: !self.close && (version == Version::Http11 || self.keep_alive),
            // RFC 9110, 10.1.1: in HTTP/1.0 it is ignored.
            expect_continue: self.expect_continue && version == Version::Http11,
        })
    }
}

/// How much white space is at the beginning.
fn leading(bytes: &[u8]) -> usize {
    span(bytes, |byte| matches!(byte, b' ' | b'\t'))
}

fn content_length(value: &[u8], limits: &Limits) -> Result<u64, Fault> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Length);
    }
    value
        .iter()
        .try_fold(0_u64, |sum, digit| {
            sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
        .filter(|&length| length <= limits.body)
        .ok_or(Fault::LengthLimit)
}

/// Nothing but `chunked`. What is a well-formed list that ends in it names codings that nobody here speaks.
fn transfer_encoding(value: &[u8]) -> Result<(), Fault> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value.rsplit(|&byte| byte == b',').map(trim);
    let last_is_chunked = codings
        .next()
        .is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    let others_are_codings = codings.all(|coding| {
        !coding.is_empty()
            && coding.iter().all(|&byte| is_token(byte))
            && !coding.eq_ignore_ascii_case(b"chunked")
    });
    Err(match last_is_chunked && others_are_codings {
        true => Fault::CodingUnknown,
        false => Fault::Coding,
    })
}
