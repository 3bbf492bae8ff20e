//! What the checker says beside yes and no.

use crate::parts::{in_any_parts, outcome_of, whole};
use roving_http::strict::{Checker, Fault, Framing, Head, Limits, Phase, Refused, Step, Version};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn checker() -> Checker {
    Checker::new(&Limits::default())
}

fn head_of(bytes: &[u8]) -> Head {
    whole(bytes).heads[0]
}

#[test]
fn heads_say_what_follows() {
    let head = head_of(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n");
    assert_eq!(
        head,
        Head {
            length: 69,
            version: Version::Http11,
            framing: Framing::Length(7),
            keep_alive: true,
            expect_continue: true,
        }
    );
    let head = head_of(b"GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n");
    assert!(!head.keep_alive && !head.expect_continue);
    assert_eq!((head.version, head.framing), (Version::Http10, Framing::Empty));
    assert!(head_of(b"GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n").keep_alive);
    let closing = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: x,CLOSE\r\n\r\n";
    assert!(!head_of(closing).keep_alive);
    let chunked = b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(head_of(chunked).framing, Framing::Chunked);
}

#[test]
fn the_preface_of_http2_passes_where_it_may() {
    let bytes = [PREFACE, b"\x00\x00\x00\x04\x00\x00\x00\x00\x00GET\n"].concat();
    let outcome = in_any_parts("allowed", &checker().allow_http2(true), &bytes);
    assert!(outcome.http2 && outcome.passed == bytes && outcome.refused.is_none());

    let outcome = in_any_parts("refused", &checker(), &bytes);
    assert_eq!(outcome.refused.map(|refused| refused.fault), Some(Fault::Http2));

    let broken = [&PREFACE[..20], b"\r\nXX"].concat();
    let outcome = in_any_parts("broken", &checker().allow_http2(true), &broken);
    assert_eq!(
        outcome.refused.map(|refused| refused.fault),
        Some(Fault::Http2Preface)
    );

    let late = [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", PREFACE].concat();
    let outcome = in_any_parts("late", &checker().allow_http2(true), &late);
    assert_eq!(outcome.refused.map(|refused| refused.fault), Some(Fault::Http2));
}

#[test]
fn a_handshake_is_seen_at_its_first_byte() {
    assert_eq!(checker().next(b"\x16").unwrap_err().fault, Fault::Tls);
    assert_eq!(checker().next(b"\x80").unwrap_err().fault, Fault::Method);
}

#[test]
fn refusals_say_where() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n";
    let refused = whole(bytes).refused.unwrap();
    assert_eq!(
        refused,
        Refused {
            fault: Fault::SpaceBeforeColon,
            offset: 52,
            request: 2,
            in_body: false
        }
    );
    assert_eq!(
        refused.to_string(),
        "refused with 400: white space between a field name and its colon (RFC 9112, 5.1), \
         in the head of request 2, at byte 52"
    );
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX";
    let refused = whole(bytes).refused.unwrap();
    assert_eq!(
        refused,
        Refused {
            fault: Fault::ChunkEnd,
            offset: bytes.len() as u64 - 1,
            request: 1,
            in_body: true
        }
    );
    assert_eq!(Refused::find(&std::io::Error::other(refused)), Some(&refused));
}

#[test]
fn faults_speak_for_themselves() {
    for fault in Fault::ALL {
        assert!(fault.status().is_client_error() || fault.status().is_server_error());
        assert!(fault.clause().starts_with("RFC "), "{fault:?}");
        assert!(!fault.text().is_empty() && fault.text().is_ascii() && !fault.text().contains(['\r', '\n']));
        assert_eq!(fault.name(), format!("{fault:?}"));
    }
}

#[test]
fn phases_follow_the_bytes() {
    let mut checker = checker();
    let head = b"\r\nPUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    for (bytes, phase) in [
        (&b""[..], Phase::Idle),
        (b"\r", Phase::Idle),
        (b"\r\n", Phase::Idle),
        (b"\r\nP", Phase::Head),
        (b"\r\nPUT / HTTP/1.1\r\n", Phase::Head),
    ] {
        assert!(bytes.is_empty() || checker.next(bytes) == Ok(Step::More));
        assert_eq!(checker.phase(bytes), phase);
    }
    assert!(matches!(checker.next(head), Ok(Step::Head(_))));
    assert_eq!(checker.phase(b""), Phase::Body);
    assert_eq!(checker.next(b""), Ok(Step::More));
    assert_eq!(checker.next(b"abc"), Ok(Step::Body { length: 3, end: true }));
    assert_eq!((checker.phase(b""), checker.requests()), (Phase::Idle, 1));
    assert!(checker.next(b"\n").is_err());
    assert_eq!(checker.phase(b"\n"), Phase::Refused);
}

#[test]
fn nothing_is_nothing() {
    let outcome = outcome_of(checker(), [&b""[..]]);
    assert_eq!(outcome, Default::default());
}
