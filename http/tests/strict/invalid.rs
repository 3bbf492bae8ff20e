//! What has to be refused: clause, the drafts it is tried on, what is exchanged in them, by what, and the answer.

use crate::draft::{Case, Draft, Edit, Expect};
use crate::valid::{ABSOLUTE, ALL, CHUNKED, LENGTH, NEW, OLD, PLAIN};
use roving_http::strict::Fault;

type Row = (
    &'static str,
    &'static [fn() -> Draft],
    Edit,
    u16,
    Fault,
    &'static [&'static [u8]],
);

#[rustfmt::skip] // A table.
const HEADS: &[Row] = &[
    ("RFC 9112, 2.1: no TLS here", PLAIN, Edit::Before, 400, Fault::Tls, &[
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16",
    ]),
    ("RFC 9112, 2.2: too many empty lines", ALL, Edit::Before, 400, Fault::EmptyLines, &[b"\r\n\r\n\r\n"]),
    ("RFC 9112, 2.2: empty lines end in CRLF", PLAIN, Edit::Before, 400, Fault::BareLf, &[b"\n", b"\r\n\n"]),
    ("RFC 9112, 2.2: a bare CR in front", PLAIN, Edit::Before, 400, Fault::BareCr, &[b"\r", b"\r\r\n"]),
    ("RFC 9110, 9.1: the method is a token", PLAIN, Edit::Method, 400, Fault::Method, &[
        b"", b"G(T", b"\"GET\"", b"G@T", b"\xc3\x89", b"GET\0", b"\0", b"{", b"GET\t", b"GET:",
    ]),
    ("RFC 9112, 3: long methods", PLAIN, Edit::Method, 501, Fault::MethodLength, &[
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG",
    ]),
    ("RFC 9112, 3: one space between the parts", PLAIN, Edit::Line, 400, Fault::RequestLine, &[
        b"GET  / HTTP/1.1\r\n", b"GET /  HTTP/1.1\r\n", b"GET / HTTP/1.1 \r\n", b"GET /a b HTTP/1.1\r\n",
        b"GET / HTTP/1.1 HTTP/1.1\r\n", b"GET /\r\n", b"GET\r\n", b"GET \r\n", b"GET HTTP/1.1\r\n",
        b"GET  HTTP/1.1\r\n",
    ]),
    ("RFC 9112, 3: white space is space", PLAIN, Edit::Line, 400, Fault::Method, &[
        b"GET\t/ HTTP/1.1\r\n", b" GET / HTTP/1.1\r\n", b"\tGET / HTTP/1.1\r\n", b"GET\x0b/ HTTP/1.1\r\n",
    ]),
    ("RFC 9112, 3: white space is space, in the target", PLAIN, Edit::Line, 400, Fault::RequestLine, &[
        b"GET /\tHTTP/1.1\r\n", b"GET /\x0cHTTP/1.1\r\n",
    ]),
    ("RFC 9112, 2.2: lines end in CRLF", PLAIN, Edit::Line, 400, Fault::BareLf, &[b"GET / HTTP/1.1\n"]),
    ("RFC 9112, 2.2: a bare CR", PLAIN, Edit::Line, 400, Fault::BareCr, &[
        b"GET / HTTP/1.1\r", b"GET /\r HTTP/1.1\r\n", b"GET\r / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\r\n",
        b"GET / HTTP/1.1\rX: y\r\n",
    ]),
    ("RFC 9112, 3.2: forms of the target", NEW, Edit::Target, 400, Fault::TargetForm, &[
        b"*", b"a", b"example.com:80", b"?a", b"ftp://example.com/", b"http:/a", b"http:", b"#", b"\\a",
        b"http:\\\\a\\",
    ]),
    ("RFC 9112, 3.2: bytes of the target", NEW, Edit::Target, 400, Fault::TargetByte, &[
        b"/#a", b"/?a#b", b"/\"", b"/<a>", b"/\\a", b"/`", b"/\x7f", b"/\x01", b"/a\0b", b"/\xc3\xa9",
        b"/?\xc3\xa9", b"/?a\"b", b"/?<", b"/?a>", b"/\t", b"/?a\0",
    ]),
    ("RFC 3986, 2.1: percent-encoding", PLAIN, Edit::Target, 400, Fault::TargetPercent, &[
        b"/%", b"/%4", b"/%zz", b"/a%0gb", b"/%?a", b"/%%41",
    ]),
    ("RFC 9110, 4.2: authorities", ABSOLUTE, Edit::Target, 400, Fault::TargetAuthority, &[
        b"http://", b"http:///a", b"http://user@example.com/", b"http://user:secret@example.com/",
        b"http://:80/", b"http://example.com:/", b"http://example.com:65536/", b"http://example.com:8x/",
        b"http://[::1/", b"http://::1/", b"http://exa%6dple.com/", b"http://a,b/",
        b"http://[::1%25eth0]/", b"http://[v1.a]/",
    ]),
    ("RFC 9110, 9.3.6: CONNECT", &[connect], Edit::Target, 501, Fault::Connect, &[
        b"example.com:443", b"/", b"http://example.com/", b"*",
    ]),
    ("RFC 9112, 2.3: how a version is written", PLAIN, Edit::Version, 400, Fault::Version, &[
        b"http/1.1", b"HTTP/1", b"HTTP/1.", b"HTTP/.1", b"HTTP/01.1", b"HTTP/1.10", b"HTTP/1,1",
        b"HTTPS/1.1", b"", b"HTTP/1.1\0", b"HTTP/-1.1", b"HTTP/1.1;", b"FOO/1.1", b"HTTP//1.1",
        b"HTTP/1.\xb2",
    ]),
    ("RFC 9110, 15.6.6: other versions", PLAIN, Edit::Version, 505, Fault::VersionUnknown, &[
        b"HTTP/0.9", b"HTTP/1.2", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/3.0", b"HTTP/9.9", b"HTTP/0.0",
    ]),
    ("RFC 9113, 3.4: HTTP/2", PLAIN, Edit::Line, 505, Fault::Http2, &[b"PRI * HTTP/2.0\r\n"]),
    ("RFC 9112, 5.1: no space before the colon", NEW, Edit::Field, 400, Fault::SpaceBeforeColon, &[
        b"X : y", b"X\t: y", b"Host : example.com", b"Content-Length : 5", b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\t:chunked", b"Content-Length  :  0",
    ]),
    ("RFC 9112, 5.2: no folding", NEW, Edit::Field, 400, Fault::Fold, &[
        b" folded", b"\tfolded", b" X: y", b" Transfer-Encoding: chunked", b"\tContent-Length: 3", b" ",
        b"\t",
    ]),
    ("RFC 9112, 5.2: no folding of a coding", PLAIN, Edit::Field, 400, Fault::Coding, &[
        b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding: \r\n\tchunked",
    ]),
    ("RFC 9112, 5.2: no folding of a length", PLAIN, Edit::Field, 400, Fault::Length, &[
        b"Content-Length:\r\n\t5", b"Content-Length: \r\n 5",
    ]),
    ("RFC 9112, 2.2: no white space before the first field", PLAIN, Edit::Fields, 400, Fault::Fold, &[
        b" Host: example.com\r\n", b"\tHost: example.com\r\n", b" \r\nHost: example.com\r\n",
    ]),
    ("RFC 9112, 5: names are tokens", NEW, Edit::Field, 400, Fault::FieldName, &[
        b":", b": y", b"X", b"X Y: z", b"X(: y", b"X\0: y", b"\xc3\x89: y", b"\"X\": y", b"X;: y",
        b"\x0bX: y", b"X\x0b: y", b"Transfer-Encoding;: chunked", b"\xef\xbb\xbfHost: a", b"X\x7f: y",
        b"Transfer\x00Encoding: chunked", b"[Content-Length]: 5", b"X=y",
    ]),
    ("RFC 9110, 5.5: values", NEW, Edit::Field, 400, Fault::FieldValue, &[
        b"X: \0", b"X: a\0b", b"X: \x01", b"X: \x0b", b"X: \x0c", b"X: \x1f", b"X: \x7f", b"X: \x08y",
        b"X: \x1b[31m", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding: chunked\0",
        b"Content-Length: 5\0", b"Host: a\0.example",
    ]),
    ("RFC 9112, 2.2: no bare CR in a field", NEW, Edit::Field, 400, Fault::BareCr, &[
        b"X: a\rb", b"X: a\rTransfer-Encoding: chunked", b"X: y\r", b"X: \r", b"X\r: y", b"\rX: y", b"\r",
        b"Transfer-Encoding:\rchunked", b"Content-Length\r: 5",
    ]),
    ("RFC 9112, 2.2: fields end in CRLF", NEW, Edit::RawField, 400, Fault::BareLf, &[
        b"X: y\n", b"X: y\nContent-Length: 5\r\n", b"X: a\n\nGET /admin HTTP/1.1\r\nHost: a\r\n", b"\n",
        b"X: y\n\r\n", b"X: y\n folded\r\n",
    ]),
    ("RFC 9112, 2.2: heads end in CRLF", NEW, Edit::End, 400, Fault::BareLf, &[b"\n"]),
    ("RFC 9112, 2.2: heads end in CRLF, not in CR", NEW, Edit::End, 400, Fault::BareCr, &[
        b"\r\r\n", b"\rX: y\r\n\r\n",
    ]),
    ("RFC 9112, 3.2: Host is required", PLAIN, Edit::Fields, 400, Fault::HostMissing, &[
        b"", b"X: y\r\n", b"Hosts: a\r\n", b"X-Host: a\r\n", b"X-Forwarded-Host: a\r\n",
    ]),
    ("RFC 9112, 3.2: one Host", NEW, Edit::Field, 400, Fault::HostTwice, &[
        b"Host: example.com", b"host: example.com", b"HOST: evil.example", b"Host:",
    ]),
    ("RFC 9112, 3.2: Host of what", NEW, Edit::Host, 400, Fault::Host, &[
        b"", b" ", b"a b", b"a,b", b"a:", b":80", b"a:b", b"a:65536", b"a:-1", b"a:0000080", b"a:80:80",
        b"user@a", b"http://a", b"a/b", b"a?b", b"a#b", b"a\\b", b"[::1", b"::1", b"[::1]x", b"[::1]:",
        b"[1.2.3.4]", b"[g::1]", b"[]", b"%61", b"a;b", b"\xc3\xa9.example", b"a\tb", b"'a'", b"a|b",
        b"[::1]@a", b"127.0.0.1:80@evil.example", b"a, a", b"*",
    ]),
    ("RFC 9112, 3.2.2: Host is the target's", ABSOLUTE, Edit::Host, 400, Fault::HostOther, &[
        b"evil.example", b"example.com:80", b"example.com.", b"www.example.com", b"example.co",
    ]),
    ("RFC 9112, 3.2.2: the target's is Host", ABSOLUTE, Edit::Target, 400, Fault::HostOther, &[
        b"http://evil.example/", b"http://example.com:81/", b"https://xample.com", b"http://127.0.0.1/",
    ]),
    ("RFC 9110, 8.6: Content-Length is digits", LENGTH, Edit::Framing, 400, Fault::Length, &[
        b"Content-Length:", b"Content-Length: +11", b"Content-Length: -11", b"Content-Length: 0xb",
        b"Content-Length: 11.0", b"Content-Length: 1 1", b"Content-Length: 11,",
        b"Content-Length: 11, 11", b"Content-Length: 11,11", b"Content-Length: 11;",
        b"Content-Length: \"11\"", b"Content-Length: 1e1", b"Content-Length: eleven",
        b"Content-Length: 1_1", b"Content-Length: 11\xa0", b"Content-Length: \xd9\xa1\xd9\xa1",
        b"Content-Length: 11 0", b"Content-Length: ,11",
    ]),
    ("RFC 9112, 6.3: one Content-Length", LENGTH, Edit::Field, 400, Fault::LengthTwice, &[
        b"Content-Length: 11", b"Content-Length: 0", b"content-length: 12", b"Content-Length: 011",
    ]),
    ("RFC 9110, 15.5.14: long bodies", LENGTH, Edit::Framing, 413, Fault::LengthLimit, &[
        b"Content-Length: 1073741825", b"Content-Length: 18446744073709551615",
        b"Content-Length: 18446744073709551616", b"Content-Length: 18446744073709551627",
        b"Content-Length: 99999999999999999999999999999999999999999",
    ]),
    ("RFC 9112, 6.1: Transfer-Encoding with Content-Length", CHUNKED, Edit::Field, 400, Fault::CodingAndLength, &[
        b"Content-Length: 5", b"Content-Length: 0", b"content-length: 28",
    ]),
    ("RFC 9112, 6.1: Content-Length with Transfer-Encoding", LENGTH, Edit::Field, 400, Fault::CodingAndLength, &[
        b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED",
    ]),
    ("RFC 9112, 6.1: Transfer-Encoding in HTTP/1.0", OLD, Edit::Field, 400, Fault::CodingVersion, &[
        b"Transfer-Encoding: chunked", b"Connection: keep-alive\r\nTransfer-Encoding: chunked",
    ]),
    ("RFC 9112, 6.1: chunked once", CHUNKED, Edit::Field, 400, Fault::CodingTwice, &[b"Transfer-Encoding: chunked"]),
    ("RFC 9112, 6.3: chunked and nothing but chunked", &[Draft::get, Draft::length, Draft::chunked], Edit::Framing, 400, Fault::Coding, &[
        b"Transfer-Encoding:", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunkedx",
        b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked, gzip",
        b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked,", b"Transfer-Encoding: ,chunked", b"Transfer-Encoding: chunked;",
        b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding: \"chunked\"",
        b"Transfer-Encoding: 'chunked'", b"Transfer-Encoding: chunk",
        b"Transfer-Encoding: chunked chunked", b"Transfer-Encoding: chun ked",
        b"Transfer-Encoding: chunked\xa0", b"Transfer-Encoding: gzip chunked", b"Transfer-Encoding: cow",
        b"Transfer-Encoding: chunked=1", b"Transfer-Encoding: x;chunked",
    ]),
    ("RFC 9112, 6.1: other codings", CHUNKED, Edit::Framing, 501, Fault::CodingUnknown, &[
        b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity,chunked",
        b"Transfer-Encoding: a, b, chunked", b"Transfer-Encoding: gzip,\tChunked",
    ]),
    ("RFC 9110, 7.6.1: Connection is tokens", NEW, Edit::Field, 400, Fault::Connection, &[
        b"Connection: keep alive", b"Connection: close;", b"Connection: \"close\"",
        b"Connection: close\xa0",
    ]),
    ("RFC 9110, 10.1.1: other expectations", NEW, Edit::Field, 417, Fault::Expect, &[
        b"Expect:", b"Expect: 200-ok", b"Expect: 100-continue, 100-continue", b"Expect: x 100-continue",
        b"Expect: 100-continue;a=b", b"Expect: 100-continued", b"Expect: \"100-continue\"",
        b"Expect: 100-continue\r\nExpect: x", b"Expect: 100-continue\r\nExpect: 100-continue",
    ]),
];

fn connect() -> Draft {
    Draft {
        method: b"CONNECT".to_vec(),
        ..Draft::get()
    }
}

#[rustfmt::skip] // A table.
const BODIES: &[Row] = &[
    ("RFC 9112, 7.1: a size is hexadecimal digits", CHUNKED, Edit::Body, 400, Fault::ChunkSize, &[
        b"\r\nb\r\n", b"g\r\n", b" b\r\n", b"\tb\r\n", b"-b\r\n", b"+b\r\n", b"0xb\r\n", b"0Xb\r\n",
        b"b_0\r\n", b"b.\r\n", b";a\r\n", b"b,\r\n", b"\"b\"\r\n", b"b\0\r\n", b"\0b\r\n", b"b\x0b\r\n",
        b"5\r\nhello\r\n\r\n0\r\n\r\n", b"\xd9\xa1\r\n", b"x",
    ]),
    ("RFC 9112, 7.1: sizes that overflow", CHUNKED, Edit::Body, 400, Fault::ChunkOverflow, &[
        b"10000000000000000\r\n", b"fffffffffffffffff\r\n", b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        b"100000000000000000000000000000005\r\n",
    ]),
    ("RFC 9110, 15.5.14: bodies over the limit", CHUNKED, Edit::Body, 413, Fault::ChunkLimit, &[
        b"40000001\r\n", b"ffffffffffffffff\r\n", b"5\r\nhello\r\n3ffffffc\r\n",
        b"1\r\na\r\nffffffffffffffff\r\n", b"8000000000000000;a=b\r\n",
    ]),
    ("RFC 9112, 2.2: lines with a size end in CRLF", CHUNKED, Edit::Body, 400, Fault::BareLf, &[
        b"b\nhello world\r\n0\r\n\r\n", b"b;a\nhello world\r\n", b"5;\nhello\r\n", b"\nb\r\n", b"0\n\r\n",
        b"5;a=\"\n\"\r\n", b"5;a=\n", b"5 \nhello\r\n",
    ]),
    ("RFC 9112, 2.2: lines with a size end in CRLF, not in CR", CHUNKED, Edit::Body, 400, Fault::BareCr, &[
        b"b\rhello world\r\n", b"b\r\r\n", b"b;a\rb\r\n", b"0\r\r\n\r\n", b"b;a=b\r;c\n",
        b"b;a=\"b\"\r\rx",
    ]),
    ("RFC 9112, 7.1.1: extensions", CHUNKED, Edit::Body, 400, Fault::ChunkExtension, &[
        b"b;\r\n", b"b;;a\r\n", b"b;=a\r\n", b"b;a=\r\n", b"b;a=;b\r\n", b"b \r\n", b"b\t\r\n",
        b"b;a \r\n", b"b;a=b \r\n", b"b; \r\n", b"b a\r\n", b"b;a b\r\n", b"b;a=b c\r\n", b"b;a=\"b\r\n",
        b"b;a=\"b\"c\r\n", b"b;a=\"b\\\r\n", b"b;a=\"\0\"\r\n", b"b;a=\"\\\x01\"\r\n", b"b;a@b\r\n",
        b"b;a==b\r\n", b"b;\0\r\n", b"b;a=\x7f\r\n", b"b;a=b,c\r\n", b"b;\rGET / HTTP/1.1\r\n",
    ]),
    ("RFC 9112, 7.1: CRLF behind a chunk", CHUNKED, Edit::Body, 400, Fault::ChunkEnd, &[
        b"5\r\nhelloX\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r0\r\n\r\n", b"5\r\nhello\r\r\n", b"5\r\nhello \r\n",
        b"5\r\nhello\0\0",
    ]),
    ("RFC 9110, 6.5.1: fields that belong in the head", CHUNKED, Edit::Trailers, 400, Fault::TrailerField, &[
        b"Content-Length: 5\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n", b"HOST: a\r\n\r\n",
        b"X: y\r\nTrailer: a\r\n\r\n", b"Connection: close\r\n\r\n", b"Expect: 100-continue\r\n\r\n",
        b"Authorization: a\r\n\r\n", b"Cookie: a\r\n\r\n", b"Content-Type: a\r\n\r\n",
        b"TE: trailers\r\n\r\n", b"Upgrade: x\r\n\r\n", b"Content-Encoding: gzip\r\n\r\n",
    ]),
    ("RFC 9112, 7.1.2: trailers are fields, with names", CHUNKED, Edit::Trailers, 400, Fault::FieldName, &[
        b"X\r\n\r\n", b": a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"X\0: y\r\n\r\n",
        b"A: b\r\nX Y\r\n\r\n",
    ]),
    ("RFC 9112, 5.1: no space before the colon of a trailer", CHUNKED, Edit::Trailers, 400, Fault::SpaceBeforeColon, &[
        b"X : y\r\n\r\n", b"Content-Length : 5\r\n\r\n",
    ]),
    ("RFC 9112, 5.2: no folding of trailers", CHUNKED, Edit::Trailers, 400, Fault::Fold, &[
        b" X: y\r\n\r\n", b"X: y\r\n z\r\n\r\n", b"\t\r\n",
    ]),
    ("RFC 9110, 5.5: values of trailers", CHUNKED, Edit::Trailers, 400, Fault::FieldValue, &[
        b"X: \0\r\n\r\n", b"X: \x7f\r\n\r\n", b"X: a\x0bb\r\n\r\n",
    ]),
    ("RFC 9112, 2.2: trailers end in CRLF", CHUNKED, Edit::Trailers, 400, Fault::BareLf, &[
        b"\n", b"X: y\n\r\n", b"X: y\r\n\n", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ]),
    ("RFC 9112, 2.2: trailers end in CRLF, not in CR", CHUNKED, Edit::Trailers, 400, Fault::BareCr, &[
        b"\r\r\n", b"X: y\r\r\n\r\n", b"X: y\rContent-Length: 3\r\n\r\n", b"\rX: y\r\n\r\n",
    ]),
];

/// All of it, every request once.
pub(crate) fn cases() -> Vec<Case> {
    let heads = expand(HEADS, Expect::Head);
    let bodies = expand(BODIES, Expect::Body);
    crate::distinct(heads.into_iter().chain(bodies))
}

fn expand(rows: &[Row], expect: fn(u16, Fault) -> Expect) -> Vec<Case> {
    let mut cases = Vec::new();
    for (clause, bases, edit, status, fault, values) in rows {
        for (base, value) in bases
            .iter()
            .flat_map(|base| values.iter().map(move |value| (base(), value)))
        {
            let mut draft = base;
            edit.apply(&mut draft, value);
            cases.push(Case {
                name: format!("{clause}, {}", draft.name),
                raw: draft.raw(),
                expect: expect(*status, *fault),
            });
        }
    }
    cases
}
