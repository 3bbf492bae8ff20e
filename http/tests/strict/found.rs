//! What fuzzing found, and all of the corpus, by the rules of the fuzz target.

use crate::differential::check;
use crate::parts::Random;
use crate::{invalid, valid};

/// Inputs that were trouble once, to the checker, the stream or its tests, each with what it was.
const FOUND: &[(&str, &[u8])] = &[
    (
        "after an ignored upgrade hyper leaves its shutdown out, and with it the answer",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\nX\n",
    ),
    (
        "the same, within a head",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\nGET",
    ),
    (
        "an answer to HEAD, behind an empty line",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nHEAD / HTTP/1.1\r\n\r\n",
    ),
    (
        "HEAD that is answered by hyper, then a refusal",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n\x16",
    ),
    (
        "HTTP/2's preface behind a request",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ),
    (
        "trailers that are cut short behind a whole line",
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\nC",
    ),
];

#[test]
fn what_was_found_stays_mended() {
    for (what, bytes) in FOUND {
        println!("{what}");
        check(bytes);
    }
}

#[test]
fn the_corpus_holds_the_rules() {
    for case in valid::cases().into_iter().chain(invalid::cases()) {
        check(&case.raw);
    }
}

/// Requests of the corpus with a few bytes exchanged, left out or doubled.
#[test]
fn damaged_requests_hold_the_rules() {
    let cases: Vec<_> = valid::cases().into_iter().chain(invalid::cases()).collect();
    let mut random = Random::new(3);
    for _ in 0..3_000 {
        let mut bytes = cases[random.below(cases.len())].raw.clone();
        bytes.extend_from_slice(&cases[random.below(cases.len())].raw);
        for _ in 0..1 + random.below(3) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.below(256) as u8,
                1 => bytes[at] = b"\r\n \t:;,0\0"[random.below(9)],
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        check(&bytes);
    }
}

/// Every byte in every kind of place: where the checker lets one through, hyper has to.
#[test]
fn all_bytes_hold_the_rules_everywhere() {
    let places = [
        "G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /@ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /?a@b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1@1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1@\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET http://a@b/ HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX@Y: z\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y@z\r\n@\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: a@b\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1@\r\n\r\n0123456789",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: @chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1@\r\na\r\n0\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a@b=\"@\"\r\na\r\n0\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na@\n0\r\nA@B: c\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nA: b@c\r\n\r@",
    ];
    for place in places {
        let parts: Vec<&[u8]> = place.as_bytes().split(|&byte| byte == b'@').collect();
        for byte in 0..=u8::MAX {
            check(&parts.join(&byte));
        }
    }
}
