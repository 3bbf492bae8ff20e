//! Limits: what is just within passes, what is just over does not, in any parts.

use crate::differential::tight;
use crate::parts::in_any_parts;
use roving_http::strict::{Checker, Fault, Limits};

/// Asserts that `within` passes and `over` is refused, as whole requests.
fn check(name: &str, within: &[u8], over: &[u8], fault: Fault) {
    let checker = Checker::new(&tight());
    let outcome = in_any_parts(name, &checker, within);
    assert_eq!((outcome.refused, outcome.at_eof), (None, None), "{name}");
    let outcome = in_any_parts(name, &checker, over);
    assert_eq!(
        outcome.refused.map(|refused| refused.fault),
        Some(fault),
        "{name}"
    );
}

/// A head with these bytes as its fields.
fn head(fields: &[u8]) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\n", fields, b"\r\n"].concat()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    [&head(b"Host: a\r\nTransfer-Encoding: chunked\r\n"), body].concat()
}

#[test]
fn request_lines() {
    let request = |length: usize| {
        let target = "a".repeat(length - "GET / HTTP/1.1".len());
        format!("GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
    };
    check(
        "request line",
        &request(64),
        &request(65),
        Fault::RequestLineLength,
    );
    // What is wrong with it otherwise makes no difference.
    let wrong = [b"GET ".repeat(20), b"\r\n".to_vec()].concat();
    check(
        "wrong request line",
        &request(64),
        &wrong,
        Fault::RequestLineLength,
    );
}

#[test]
fn methods_and_empty_lines() {
    let rest = b" / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(
        "method",
        &[&b"ABCDEFGH"[..], rest].concat(),
        &[&b"ABCDEFGHI"[..], rest].concat(),
        Fault::MethodLength,
    );
    check(
        "empty lines",
        &[&b"\r\nGET"[..], rest].concat(),
        &[&b"\r\n\r\nGET"[..], rest].concat(),
        Fault::EmptyLines,
    );
}

#[test]
fn fields() {
    check(
        "count",
        &head(b"Host: a\r\nA:\r\nB:\r\n"),
        &head(b"Host: a\r\nA:\r\nB:\r\nC:\r\n"),
        Fault::FieldCount,
    );
    let long = |length: usize| {
        let value = "v".repeat(length - "Host: a\r\nX: \r\n".len());
        head(format!("Host: a\r\nX: {value}\r\n").as_bytes())
    };
    check("bytes", &long(64), &long(65), Fault::FieldBytes);
    // Without an end in sight.
    check("endless", &long(64), &long(1_000)[..100], Fault::FieldBytes);
}

#[test]
fn bodies() {
    let known = |length: usize| {
        let head = head(format!("Host: a\r\nContent-Length: {length}\r\n").as_bytes());
        [head, vec![b'x'; length]].concat()
    };
    check("length", &known(100), &known(101), Fault::LengthLimit);
    let chunks = |last: usize| {
        let data = "x".repeat(last);
        chunked(format!("32\r\n{}\r\n{last:x}\r\n{data}\r\n0\r\n\r\n", "y".repeat(50)).as_bytes())
    };
    check("chunks", &chunks(50), &chunks(51), Fault::ChunkLimit);
}

#[test]
fn chunk_lines() {
    check(
        "leading zeros",
        &chunked(b"0000000000000001\r\na\r\n0\r\n\r\n"),
        &chunked(b"00000000000000001\r\na\r\n0\r\n\r\n"),
        Fault::ChunkLine,
    );
    check(
        "one extension",
        &chunked(b"1;aaaaaaaaaaaaaa\r\na\r\n0\r\n\r\n"),
        &chunked(b"1;aaaaaaaaaaaaaaa\r\na\r\n0\r\n\r\n"),
        Fault::ChunkLine,
    );
    check(
        "all extensions",
        &chunked(b"1;aaaaaaaaaa\r\na\r\n1;bbbbbbbbbb\r\nb\r\n0\r\n\r\n"),
        &chunked(b"1;aaaaaaaaaa\r\na\r\n1;bbbbbbbbbb\r\nb\r\n0;c\r\n\r\n"),
        Fault::ChunkExtensions,
    );
}

#[test]
fn trailers() {
    check(
        "count",
        &chunked(b"0\r\nA:\r\nB:\r\n\r\n"),
        &chunked(b"0\r\nA:\r\nB:\r\nC:\r\n\r\n"),
        Fault::TrailerCount,
    );
    let long = |length: usize| chunked(format!("0\r\nA: {}\r\n\r\n", "v".repeat(length - 7)).as_bytes());
    check("bytes", &long(32), &long(33), Fault::TrailerBytes);
}

#[test]
fn limits_stay_within_those_of_hyper() {
    let all = Limits {
        request_line: usize::MAX,
        method: usize::MAX,
        fields: usize::MAX,
        field_bytes: usize::MAX,
        empty_lines: usize::MAX,
        body: u64::MAX,
        chunk_line: usize::MAX,
        chunk_extensions: usize::MAX,
        trailer_fields: usize::MAX,
        trailer_bytes: usize::MAX,
    };
    let clamped = all.clamped();
    assert_eq!(clamped, clamped.clamped());
    assert!(clamped.request_line < 65_534 && clamped.body < u64::MAX - 1);
    assert!(clamped.chunk_extensions < 16 * 1024 && clamped.trailer_bytes < 16 * 1024);
    assert_eq!(Limits::default(), Limits::default().clamped());
}
