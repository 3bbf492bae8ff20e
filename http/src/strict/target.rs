//! Targets and hosts: what a request asks for, and of whom (RFC 9112, 3.2; RFC 3986).

use super::fault::Fault;
use super::table::{is_hex, is_host, is_path, is_query, span};
use std::net::Ipv6Addr;
use std::ops::Range;

/// Checks a target and finds the authority in it, if it has one.
///
/// What is checked is a little wider than RFC 3986 where browsers are (`[` and `|` in a query), and as narrow as hyper.
pub(super) fn check_target(method: &[u8], target: &[u8]) -> Result<Option<Range<usize>>, Fault> {
    if method == b"CONNECT" {
        return Err(Fault::Connect);
    }
    let (authority, rest) = match target {
        [b'/', ..] => (None, 0),
        // For OPTIONS alone, as the form of an authority is for CONNECT alone.
        b"*" if method == b"OPTIONS" => return Ok(None),
        _ => {
            let start = [&b"http://"[..], b"https://"]
                .into_iter()
                .find(|scheme| {
                    target
                        .get(..scheme.len())
                        .is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
                })
                .ok_or(Fault::TargetForm)?
                .len();
            let end = start + span(&target[start..], |byte| !matches!(byte, b'/' | b'?' | b'#'));
            if !is_authority(&target[start..end]) {
                return Err(Fault::TargetAuthority);
            }
            (Some(start..end), end)
        }
    };
    check_path(&target[rest..])?;
    Ok(authority)
}

/// Checks what HTTP/2 has in parts: a path with its query, and whom the request is for.
pub(crate) fn check_parts(method: &str, target: &str, authority: Option<&[u8]>) -> Result<(), Fault> {
    match target.as_bytes() {
        [b'/', ..] => check_path(target.as_bytes())?,
        b"*" if method == "OPTIONS" => {}
        _ => return Err(Fault::TargetForm),
    }
    match authority {
        Some(authority) if !is_authority(authority) => Err(Fault::TargetAuthority),
        _ => Ok(()),
    }
}

/// A path, which may be empty, and a query.
fn check_path(target: &[u8]) -> Result<(), Fault> {
    let mut at = 0;
    loop {
        at += span(&target[at..], |byte| is_path(byte) && byte != b'%');
        match target.get(at..) {
            None | Some([]) => return Ok(()),
            Some([b'%', high, low, ..]) if is_hex(*high) && is_hex(*low) => at += 3,
            Some([b'%', ..]) => return Err(Fault::TargetPercent),
            Some([b'?', query @ ..]) => {
                // A lone percent sign is what browsers leave of `?discount=50%`.
                return match query.iter().all(|&byte| is_query(byte)) {
                    true => Ok(()),
                    false => Err(Fault::TargetByte),
                };
            }
            Some(_) => return Err(Fault::TargetByte),
        }
    }
}

/// Whether this is a host and perhaps a port.
///
/// Narrower than RFC 3986: no user, no empty host or port, and names without `%` and punctuation other than `-._~`. Nothing
/// that resolves is lost by it, and no two readers will understand the rest differently.
pub(super) fn is_authority(bytes: &[u8]) -> bool {
    let (host_ok, after) = match bytes {
        [b'[', rest @ ..] => {
            let length = span(rest, |byte| is_hex(byte) || byte == b':' || byte == b'.');
            let parsed = std::str::from_utf8(&rest[..length]).map(str::parse::<Ipv6Addr>);
            match (parsed, &rest[length..]) {
                (Ok(Ok(_)), [b']', after @ ..]) => (true, after),
                _ => return false,
            }
        }
        _ => {
            let length = span(bytes, is_host);
            (length > 0, &bytes[length..])
        }
    };
    let port_ok = match after {
        [] => true,
        [b':', port @ ..] => is_port(port),
        _ => false,
    };
    host_ok && port_ok
}

/// One to five digits, not above 65535.
fn is_port(digits: &[u8]) -> bool {
    if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let port = digits
        .iter()
        .fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    port <= u32::from(u16::MAX)
}
