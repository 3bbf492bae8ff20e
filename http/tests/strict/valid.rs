//! What has to pass: clause, the drafts it is tried on, what is exchanged in them, and by what.

use crate::draft::{Case, Draft, Edit, Expect};

type Base = fn() -> Draft;

/// Every draft that has a Host.
pub(crate) const NEW: &[Base] = &[Draft::get, Draft::length, Draft::chunked];
pub(crate) const ALL: &[Base] = &[
    Draft::get,
    Draft::old,
    Draft::absolute,
    Draft::length,
    Draft::chunked,
];
pub(crate) const PLAIN: &[Base] = &[Draft::get];
pub(crate) const OLD: &[Base] = &[Draft::old];
pub(crate) const ABSOLUTE: &[Base] = &[Draft::absolute];
pub(crate) const LENGTH: &[Base] = &[Draft::length];
pub(crate) const CHUNKED: &[Base] = &[Draft::chunked];

type Row = (&'static str, &'static [Base], Edit, &'static [&'static [u8]]);

#[rustfmt::skip] // A table.
const ROWS: &[Row] = &[
    ("RFC 9112, 2.2: empty lines in front", ALL, Edit::Before, &[b"", b"\r\n", b"\r\n\r\n"]),
    ("RFC 9110, 9.1: the method is a token", ALL, Edit::Method, &[
        b"GET", b"POST", b"DELETE", b"PATCH", b"PROPFIND", b"M-SEARCH", b"get", b"X",
        b"!#$%&'*+-.^_`|~09",
    ]),
    ("RFC 9112, 3.2.1: origin form", NEW, Edit::Target, &[
        b"/", b"//", b"//other.example/x", b"/a/./../b", b"/a;b=c,d", b"/%00%ff%2F", b"/a:b@c",
        b"/-._~!$&'()*+,;=", b"/[a]^|{b}", b"/?", b"/??a=b/c?d", b"/?filter[a]=b|c^d`e\\f{g}",
        b"/?discount=50%", b"/http://example.com/", b"/*",
    ]),
    ("RFC 9112, 2.3: versions", PLAIN, Edit::Version, &[b"HTTP/1.0", b"HTTP/1.1"]),
    ("RFC 9112, 3.2: Host", NEW, Edit::Host, &[
        b"a", b"example.com:80", b"EXAMPLE.com", b"example.com.", b"under_score.example",
        b"xn--bcher-kva.example", b"127.0.0.1", b"127.0.0.1:65535", b"[::1]", b"[::1]:8080",
        b"[2001:db8::ff00:42:8329]:1", b"[::ffff:192.0.2.1]", b" \t example.com \t ",
    ]),
    ("RFC 9112, 3.2: HTTP/1.0 may have a Host", OLD, Edit::Field, &[b"Host: example.com", b"hOST:[::1]:9"]),
    ("RFC 9112, 5: field lines", NEW, Edit::Field, &[
        b"X:", b"X: ", b"X:\t \t", b"X:y", b"X: y ", b"X:\t\ty\t ", b"X: a b\tc", b"X: a:b:c",
        b"X: \"quoted, \\\" text\"", b"!#$%&'*+-.^_`|~09aZ: tokens", b"X: \x80\xff\xc3\xa9", b"X-Empty:",
        b"user-agent: a second one", b"X: !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", b"Content_Length: 5",
        b"Content-Lengthy: 5", b"X-Transfer-Encoding: gzip",
    ]),
    ("RFC 9110, 7.6.1: Connection", NEW, Edit::Field, &[
        b"Connection: keep-alive", b"Connection: close", b"Connection: Upgrade, Keep-Alive",
        b"Connection:", b"Connection: , ,a", b"Upgrade: h2c",
    ]),
    ("RFC 9110, 7.6.1: Connection in HTTP/1.0", OLD, Edit::Field, &[b"Connection: keep-alive", b"Connection: x"]),
    ("RFC 9110, 10.1.1: Expect", NEW, Edit::Field, &[
        b"Expect: 100-continue", b"expect:100-CONTINUE", b"Expect: \t100-continue ",
    ]),
    ("RFC 9110, 10.1.1: Expect in HTTP/1.0", OLD, Edit::Field, &[b"Expect: 100-continue"]),
    ("RFC 9110, 8.6: Content-Length", LENGTH, Edit::Framing, &[
        b"Content-Length: 11", b"content-length:11", b"CONTENT-LENGTH: \t 11 \t",
        b"Content-Length: 00000000011",
    ]),
    ("RFC 9110, 8.6: Content-Length of 0", &[Draft::get, Draft::old], Edit::Field, &[
        b"Content-Length: 0", b"Content-Length: 000",
    ]),
    ("RFC 9112, 6.1: Transfer-Encoding", CHUNKED, Edit::Framing, &[
        b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked", b"TRANSFER-ENCODING:\tCHUNKED ",
    ]),
    ("RFC 9112, 7.1: chunks", CHUNKED, Edit::Body, &[
        b"b\r\nhello world\r\n0\r\n\r\n", b"B\r\nhello world\r\n0\r\n\r\n",
        b"0b\r\nhello world\r\n0\r\n\r\n",
        b"0000000000000000000000b\r\nhello world\r\n000000000000000000000000\r\n\r\n",
        b"1\r\nh\r\n1\r\ne\r\n9\r\nllo world\r\n0\r\n\r\n",
    ]),
    ("RFC 9112, 7.1.1: chunk extensions", CHUNKED, Edit::Body, &[
        b"b;a\r\nhello world\r\n0\r\n\r\n", b"b;a=b\r\nhello world\r\n0;last\r\n\r\n",
        b"b;a=b;c;d=e\r\nhello world\r\n0\r\n\r\n", b"b ; a = b\t;\tc\r\nhello world\r\n0\r\n\r\n",
        b"b;a=\"b\"\r\nhello world\r\n0\r\n\r\n", b"b;a=\"\"\r\nhello world\r\n0\r\n\r\n",
        b"b;a=\"b;c \\\" \\\\ \t\xff\" ;d=e\r\nhello world\r\n0\r\n\r\n",
    ]),
    ("RFC 9112, 7.1.2: trailers", CHUNKED, Edit::Trailers, &[
        b"\r\n", b"X-Checksum: 1234\r\n\r\n", b"X:\r\n\r\n", b"A: 1\r\nB:  2 \t\r\nA: 3\r\n\r\n",
        b"Content-Length-Of-It: 3\r\n\r\n", b"!#$%&'*+-.^_`|~09aZ: \x80\xff \"\r\n\r\n",
    ]),
    ("RFC 9110, 9.3.7: asterisk form", &[options], Edit::Target, &[b"*", b"/"]),
];

fn options() -> Draft {
    Draft {
        method: b"OPTIONS".to_vec(),
        ..Draft::get()
    }
}

/// Targets with an authority: what is sent, its Host, and what hyper makes of the target.
const ABSOLUTES: &[(&[u8], &[u8], &[u8])] = &[
    (b"http://example.com/", b"example.com", b"http://example.com/"),
    (b"http://example.com", b"example.com", b"http://example.com/"),
    (b"http://example.com?a", b"example.com", b"http://example.com/?a"),
    (
        b"https://example.com/b?c",
        b"example.com",
        b"https://example.com/b?c",
    ),
    (b"HTTP://example.com/b", b"example.com", b"http://example.com/b"),
    (
        b"http://EXAMPLE.com:80/b",
        b"example.COM:80",
        b"http://EXAMPLE.com:80/b",
    ),
    (b"http://[::1]:1/b", b"[::1]:1", b"http://[::1]:1/b"),
    (b"http://a//b/%2e?c%", b"a", b"http://a//b/%2e?c%"),
];

/// All of it, every request once.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (clause, bases, edit, values) in ROWS {
        for (base, value) in bases
            .iter()
            .flat_map(|base| values.iter().map(move |value| (base(), value)))
        {
            let mut draft = base;
            edit.apply(&mut draft, value);
            cases.push((clause, draft));
        }
    }
    for (target, host, understood) in ABSOLUTES {
        let mut draft = Draft::absolute();
        Edit::Target.apply(&mut draft, target);
        Edit::Host.apply(&mut draft, host);
        draft.understood = Some(understood.to_vec());
        cases.push((&"RFC 9112, 3.2.2: absolute form", draft));
    }
    let cases = cases.into_iter().map(|(clause, draft)| Case {
        name: format!("{clause}, {}", draft.name),
        raw: draft.raw(),
        expect: Expect::Passes(draft.seen()),
    });
    crate::distinct(cases)
}
