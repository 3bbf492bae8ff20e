//! The access log: what is kept of a request until its response has been given, and the line that comes of it.

use super::format::{Format, Piece, push_escaped};
use super::log_file::LogFile;
use super::request::Wsgi;
use super::writer::Writer;
use crate::held::Held;
use crate::native;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header;
use http::request::Parts;
use pyo3::prelude::*;
use pyo3::types::PyString;
use roving_http::{Endpoint, Origin};
use std::borrow::Cow;
use std::fmt::Write;
use std::time::Instant;

/// Where lines go.
pub(crate) enum Sink {
    /// A callable, which is given a line.
    Python(Held),
    File(LogFile),
}

/// What is logged, and where.
pub(crate) struct Log {
    pub(crate) format: Format,
    pub(crate) sink: Sink,
}

/// What is kept of a request: its parts of the line, one after another as the format has them, escaped.
pub(crate) struct Entry {
    began: Instant,
    text: String,
    ends: Vec<usize>,
}

/// Bytes that each stand for themselves.
fn latin1(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()),
    }
}

/// Base64 with its padding or without, and whatever bits are left over: it is read for a line of a log.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The name in an `Authorization` field of the Basic kind.
fn user(request: &Parts) -> Option<String> {
    let value = request.headers.get(header::AUTHORIZATION)?.as_bytes();
    let (kind, code) = value.split_at_checked(6)?;
    if !kind.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = BASIC.decode(code.trim_ascii()).ok()?;
    let name = decoded.split(|byte| *byte == b':').next()?;
    Some(latin1(name).into_owned()).filter(|name| !name.is_empty())
}

impl Entry {
    pub(crate) fn new(log: &Log, request: &Parts, endpoint: &Endpoint, origin: Option<&Origin>) -> Self {
        let mut entry = Self {
            began: Instant::now(),
            text: String::with_capacity(160),
            ends: Vec::with_capacity(8),
        };
        let json = log.format.json;
        let field =
            |name: &header::HeaderName| request.headers.get(name).map(|value| latin1(value.as_bytes()));
        for piece in &log.format.pieces {
            let text: Cow<'_, str> = match piece {
                Piece::Host => {
                    let host = origin.and_then(|origin| origin.host.as_ref());
                    Cow::Borrowed(host.unwrap_or(&endpoint.remote_host))
                }
                Piece::User => user(request).unwrap_or_default().into(),
                Piece::Line => {
                    let mut line = String::with_capacity(64);
                    // Writing to a string cannot fail.
                    let _ = write!(line, "{} {} {:?}", request.method, request.uri, request.version);
                    line.into()
                }
                Piece::Method => request.method.as_str().into(),
                Piece::Path => request.uri.path().into(),
                Piece::Query => request.uri.query().unwrap_or("").into(),
                Piece::Protocol => format!("{:?}", request.version).into(),
                Piece::Request(name) => field(name).unwrap_or_default(),
                _ => continue,
            };
            match (text.is_empty(), piece, json) {
                (true, Piece::Query, _) | (true, _, true) => {}
                (true, ..) => entry.text.push('-'),
                (false, ..) => push_escaped(&mut entry.text, &text, json),
            }
            entry.ends.push(entry.text.len());
        }
        entry
    }

    /// Writes the line.
    fn line(&self, log: &Log, writer: &Writer, environ: &Bound<'_, PyAny>) -> String {
        let (status, bytes) = writer.sent();
        let took = self.began.elapsed();
        let mut line = String::with_capacity(self.text.len() + 96);
        let json = log.format.json;
        let mut begin = 0;
        let mut ends = self.ends.iter();
        for piece in &log.format.pieces {
            // Writing to a string cannot fail.
            let _ = match piece {
                Piece::Literal(text) => {
                    line.push_str(text);
                    Ok(())
                }
                Piece::Time => super::format::with_time(|time| line.write_str(&time.common)),
                Piece::TimeIso => super::format::with_time(|time| line.write_str(&time.iso)),
                Piece::Status => write!(line, "{status}"),
                Piece::Bytes => write!(line, "{bytes}"),
                Piece::BytesOrDash if bytes == 0 => line.write_char('-'),
                Piece::BytesOrDash => write!(line, "{bytes}"),
                Piece::Seconds => write!(line, "{}", took.as_secs()),
                Piece::Decimal => write!(line, "{}.{:06}", took.as_secs(), took.subsec_micros()),
                Piece::Millis => write!(line, "{}", took.as_millis()),
                Piece::Micros => write!(line, "{}", took.as_micros()),
                Piece::Pid => write!(line, "<{}>", std::process::id()),
                Piece::Response(name) => {
                    let value = writer.kept(name);
                    let value = value.as_ref().map(|value| latin1(value.as_bytes()));
                    push_escaped(&mut line, value.as_deref().unwrap_or("-"), json);
                    Ok(())
                }
                Piece::Environ(name) => {
                    // What is no text might run code to become one.
                    let value = environ.get_item(name).ok();
                    let value = value.as_ref().and_then(|value| value.cast::<PyString>().ok());
                    let value = value.map(|value| value.to_string_lossy());
                    push_escaped(&mut line, value.as_deref().unwrap_or("-"), json);
                    Ok(())
                }
                _ => {
                    let end = ends.next().copied().unwrap_or(begin);
                    line.push_str(&self.text[begin..end]);
                    begin = end;
                    Ok(())
                }
            };
        }
        line
    }

    /// Tells the log.
    pub(crate) fn log(
        self,
        py: Python<'_>,
        wsgi: &Wsgi,
        writer: &Writer,
        environ: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let Some(log) = &wsgi.access else { return Ok(()) };
        let mut line = self.line(log, writer, environ);
        match &log.sink {
            Sink::Python(callable) => {
                native::invoke(callable.bind(py), [PyString::new(py, &line).as_any()]).map(drop)
            }
            Sink::File(file) => {
                line.push('\n');
                file.push(line.as_bytes());
                Ok(())
            }
        }
    }
}
