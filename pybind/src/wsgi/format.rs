//! Formats of the access log: gunicorn's `%(h)s` and its like, and those that have a name.

use http::HeaderName;
use std::cell::RefCell;
use std::fmt::Write;
use std::mem::MaybeUninit;

const COMMON: &str = r#"%(h)s - %(u)s [%(t)s] "%(r)s" %(s)s %(B)s"#;
const COMBINED: &str = r#"%(h)s - %(u)s [%(t)s] "%(r)s" %(s)s %(B)s "%(f)s" "%(a)s" %(L)s"#;
const ATOMS: &str = "h, l, u, t, r, m, U, q, H, s, B, b, f, a, T, M, D, L, p, {field}i, {field}o and {key}e";

/// A part of a line. Those up to `Request` are known when a request begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Host,
    User,
    Line,
    Method,
    Path,
    Query,
    Protocol,
    Request(HeaderName),
    Literal(String),
    Time,
    TimeIso,
    Status,
    Bytes,
    BytesOrDash,
    Seconds,
    Decimal,
    Millis,
    Micros,
    Pid,
    Response(HeaderName),
    Environ(String),
}

/// What a line consists of.
#[derive(Debug)]
pub(crate) struct Format {
    pub(super) pieces: Vec<Piece>,
    /// How what clients send is escaped.
    pub(super) json: bool,
}

impl Format {
    /// `combined`, `common`, `json`, or atoms and text. The error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let json = text == "json";
        let pieces = match text {
            "json" => json_pieces(),
            "common" => parse(COMMON)?,
            "combined" => parse(COMBINED)?,
            text if text.contains('%') => parse(text)?,
            text => {
                return Err(format!(
                    "{text:?} is no format of the access log: it is combined, common, json or has atoms as %(h)s"
                ));
            }
        };
        Ok(Self { pieces, json })
    }

    /// Whether it tells fields of the response.
    pub(crate) fn wants_response(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Response(_)))
    }
}

fn json_pieces() -> Vec<Piece> {
    let text = |text: &str| Piece::Literal(text.to_owned());
    let field = |name: HeaderName| Piece::Request(name);
    vec![
        text("{\"time\":\""),
        Piece::TimeIso,
        text("\",\"remote_addr\":\""),
        Piece::Host,
        text("\",\"user\":\""),
        Piece::User,
        text("\",\"method\":\""),
        Piece::Method,
        text("\",\"path\":\""),
        Piece::Path,
        text("\",\"query\":\""),
        Piece::Query,
        text("\",\"protocol\":\""),
        Piece::Protocol,
        text("\",\"status\":"),
        Piece::Status,
        text(",\"bytes\":"),
        Piece::Bytes,
        text(",\"seconds\":"),
        Piece::Decimal,
        text(",\"host\":\""),
        field(http::header::HOST),
        text("\",\"referer\":\""),
        field(http::header::REFERER),
        text("\",\"user_agent\":\""),
        field(http::header::USER_AGENT),
        text("\"}"),
    ]
}

fn parse(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('%') {
        literal.push_str(before);
        if let Some(behind) = behind.strip_prefix('%') {
            literal.push('%');
            rest = behind;
            continue;
        }
        let atom = behind.strip_prefix('(').and_then(|inner| inner.split_once(")s"));
        let Some((atom, behind)) = atom else {
            return Err(format!(
                "the format of the access log has a % that begins no %(atom)s, before {behind:?}"
            ));
        };
        match piece(atom)? {
            Piece::Literal(text) => literal.push_str(&text),
            piece => {
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(piece);
            }
        }
        rest = behind;
    }
    literal.push_str(rest);
    if literal.contains(['\n', '\r']) {
        return Err("a line of the access log has no line breaks in it".to_owned());
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

fn piece(atom: &str) -> Result<Piece, String> {
    let unknown = || format!("the format of the access log has no atom %({atom})s; there are {ATOMS}");
    if let Some((name, kind)) = atom.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
        let field = || name.parse::<HeaderName>().map_err(|_| unknown());
        return match kind {
            "i" => Ok(Piece::Request(field()?)),
            "o" => Ok(Piece::Response(field()?)),
            "e" if !name.is_empty() => Ok(Piece::Environ(name.to_owned())),
            _ => Err(unknown()),
        };
    }
    Ok(match atom {
        "h" => Piece::Host,
        "l" => Piece::Literal("-".to_owned()),
        "u" => Piece::User,
        "t" => Piece::Time,
        "r" => Piece::Line,
        "m" => Piece::Method,
        "U" => Piece::Path,
        "q" => Piece::Query,
        "H" => Piece::Protocol,
        "s" => Piece::Status,
        "B" => Piece::Bytes,
        "b" => Piece::BytesOrDash,
        "f" => Piece::Request(http::header::REFERER),
        "a" => Piece::Request(http::header::USER_AGENT),
        "T" => Piece::Seconds,
        "M" => Piece::Millis,
        "D" => Piece::Micros,
        "L" => Piece::Decimal,
        "p" => Piece::Pid,
        _ => return Err(unknown()),
    })
}

/// Adds what a client sent so that it can neither end a line nor a string in quotes.
pub(super) fn push_escaped(line: &mut String, text: &str, json: bool) {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        line.push_str(text);
        return;
    }
    for letter in text.chars() {
        // Writing to a string cannot fail.
        let _ = match u32::from(letter) {
            0x22 | 0x5c => write!(line, "\\{letter}"),
            0x20..=0x7e => line.write_char(letter),
            code if json => {
                let mut units = [0; 2];
                let _ = code;
                letter
                    .encode_utf16(&mut units)
                    .iter()
                    .try_for_each(|unit| write!(line, "\\u{unit:04x}"))
            }
            0x0a => line.write_str("\\n"),
            0x0d => line.write_str("\\r"),
            0x09 => line.write_str("\\t"),
            code @ ..=0xff => write!(line, "\\x{code:02x}"),
            code @ ..=0xffff => write!(line, "\\u{code:04x}"),
            code => write!(line, "\\U{code:08x}"),
        };
    }
}

/// The time of day, as it is written down.
#[derive(Default)]
pub(super) struct Written {
    second: libc::time_t,
    pub(super) common: String,
    pub(super) iso: String,
}

thread_local! {
    static WRITTEN: RefCell<Written> = RefCell::default();
}

/// Calls `f`, which neither waits nor calls this again, with the time of day: it is written down once a second.
pub(super) fn with_time<R>(f: impl FnOnce(&Written) -> R) -> R {
    // SAFETY: a null pointer is allowed.
    let second = unsafe { libc::time(std::ptr::null_mut()) };
    WRITTEN.with_borrow_mut(|written| {
        if written.second != second || written.common.is_empty() {
            *written = write_time(second);
        }
        f(written)
    })
}

fn write_time(second: libc::time_t) -> Written {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut place = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both point to what lives.
    unsafe { libc::localtime_r(&raw const second, place.as_mut_ptr()) };
    // SAFETY: zeros are a valid one, if it failed.
    let tm = unsafe { place.assume_init() };
    let (year, month) = (tm.tm_year + 1900, tm.tm_mon.clamp(0, 11));
    let sign = if tm.tm_gmtoff < 0 { '-' } else { '+' };
    let minutes = tm.tm_gmtoff.abs() / 60;
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let clock = format!("{:02}:{:02}:{:02}", tm.tm_hour, tm.tm_min, tm.tm_sec);
    let day = tm.tm_mday;
    let name = MONTHS[month as usize];
    Written {
        second,
        common: format!("{day:02}/{name}/{year}:{clock} {sign}{hours:02}{minutes:02}"),
        iso: format!(
            "{year}-{:02}-{day:02}T{clock}{sign}{hours:02}:{minutes:02}",
            month + 1
        ),
    }
}
