//! Any bytes: what the checker makes of them does not depend on how they are cut, and what it passes hyper understands as it
//! does. hyper reads the passed bytes here without us in front of it. Fuzzed by `make fuzz`.

use crate::draft::Seen;
use crate::parts::{Outcome, Random, outcome_of};
use crate::serving::{serve, sorted};
use crate::shown;
use crate::wire::{Driven, Wire, statuses};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, Uri, header::HeaderName, header::HeaderValue};
use roving_http::strict::{Checker, Framing, Limits, Version};
use std::cell::RefCell;
use std::convert::Infallible;

/// Panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    let seed = data.iter().fold(data.len() as u64, |sum, &byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let mut random = Random::new(seed);
    let [expected, _] = [Limits::default(), tight()].map(|limits| {
        let checker = Checker::new(&limits);
        let expected = outcome_of(checker.clone(), [data]);
        let bytewise: Vec<&[u8]> = data.chunks(1).collect();
        for parts in [bytewise, random.parts(data), random.parts(data)] {
            let outcome = outcome_of(checker.clone(), parts);
            assert_eq!(outcome, expected, "cut otherwise: {}", shown(data));
        }
        expected
    });
    assert!(
        data.starts_with(&expected.passed),
        "passed what never came: {}",
        shown(data)
    );

    let requests = requests(&expected);
    assert_eq!(
        by_hyper(&expected.passed),
        requests,
        "hyper differs: {}",
        shown(data)
    );
    through_the_stream(&random.parts(data), &expected, &requests);
}

/// Limits that small inputs come up against.
pub(crate) fn tight() -> Limits {
    Limits {
        request_line: 64,
        method: 8,
        fields: 3,
        field_bytes: 64,
        empty_lines: 1,
        body: 100,
        chunk_line: 16,
        chunk_extensions: 20,
        trailer_fields: 2,
        trailer_bytes: 32,
    }
}

/// What the passed bytes mean by the checker's own word; a request whose body is not all there is none.
fn requests(outcome: &Outcome) -> Vec<Option<Seen>> {
    let mut rest = &outcome.passed[..];
    let mut requests = Vec::new();
    for head in &outcome.heads {
        let (bytes, behind) = rest.split_at(head.length);
        let mut seen = parse(bytes);
        let version = match head.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        };
        assert_eq!(seen.version, version);
        let mut body = behind;
        let whole = match head.framing {
            Framing::Empty => true,
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                seen.body = take(&mut body, length).to_vec();
                seen.body.len() == length
            }
            Framing::Chunked => unchunk(&mut body, &mut seen).is_some(),
        };
        requests.push(whole.then_some(seen));
        rest = body;
    }
    assert!(rest.is_empty(), "passed behind the last message: {}", shown(rest));
    requests
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> &'b [u8] {
    let (taken, rest) = bytes.split_at(count.min(bytes.len()));
    *bytes = rest;
    taken
}

fn take_line<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    take(bytes, end + 1).strip_suffix(b"\r\n")
}

/// Without any care: the checker has been there.
fn unchunk(bytes: &mut &[u8], seen: &mut Seen) -> Option<()> {
    let whole = (|| {
        loop {
            let line = take_line(bytes)?;
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let digits = std::str::from_utf8(&line[..digits]).ok()?;
            let size = usize::from_str_radix(digits, 16).expect("a size");
            if size == 0 {
                break;
            }
            let data = take(bytes, size);
            seen.body.extend_from_slice(data);
            if data.len() < size {
                return None;
            }
            take_line(bytes)?;
        }
        let mut trailers = HeaderMap::new();
        loop {
            let line = take_line(bytes)?;
            let Some(colon) = line.iter().position(|&byte| byte == b':') else {
                break;
            };
            trailers.append(
                HeaderName::from_bytes(&line[..colon]).expect("a name"),
                HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).expect("a value"),
            );
        }
        seen.trailers = sorted(&trailers);
        Some(())
    })();
    if whole.is_none() {
        *bytes = &[];
    }
    whole
}

/// A head by httparse, which hyper uses too.
fn parse(head: &[u8]) -> Seen {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut fields);
    let status = request.parse(head).expect("httparse takes what passes");
    assert_eq!(status, httparse::Status::Complete(head.len()), "{}", shown(head));
    let target = request.path.expect("a target");
    let uri: Uri = target.parse().expect("hyper takes the target");
    let mut map = HeaderMap::new();
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).expect("hyper takes the name");
        map.append(
            name,
            HeaderValue::from_bytes(field.value).expect("hyper takes the value"),
        );
    }
    assert!(map.get_all("host").iter().count() <= 1);
    assert!(map.get_all("content-length").iter().count() <= 1);
    assert!(map.get("content-length").is_none() || map.get("transfer-encoding").is_none());
    Seen {
        method: request.method.expect("a method").to_owned(),
        target: uri.to_string(),
        version: format!("HTTP/1.{}", request.version.expect("a version")),
        fields: sorted(&map),
        ..Seen::default()
    }
}

/// What hyper makes of these bytes by itself.
fn by_hyper(bytes: &[u8]) -> Vec<Option<Seen>> {
    let calls = RefCell::new(Vec::new());
    let wire = Wire::default();
    if !bytes.is_empty() {
        wire.send(bytes);
    }
    wire.end();
    let service = service_fn(|request: Request<Incoming>| {
        let calls = &calls;
        async move {
            let (parts, body) = request.into_parts();
            let call = body.collect().await.ok().map(|body| Seen {
                method: parts.method.to_string(),
                target: parts.uri.to_string(),
                version: format!("{:?}", parts.version),
                fields: sorted(&parts.headers),
                trailers: body.trailers().map(sorted).unwrap_or_default(),
                body: body.to_bytes().to_vec(),
            });
            calls.borrow_mut().push(call);
            Ok::<_, Infallible>(Response::new(String::new()))
        }
    });
    let mut builder = http1::Builder::new();
    Limits::default().configure(&mut builder);
    let connection = builder.half_close(true).serve_connection(wire.clone(), service);
    let done = Driven::new(connection).run().expect("it ends with its client");
    done.unwrap_or_else(|error| panic!("hyper refuses {}: {error}", shown(bytes)));
    let answered = statuses(&wire.written());
    assert!(
        answered.iter().all(|&status| status == 200),
        "{answered:?}: {}",
        shown(bytes)
    );
    calls.into_inner()
}

/// What comes of the bytes with hyper behind the stream.
fn through_the_stream(parts: &[&[u8]], outcome: &Outcome, requests: &[Option<Seen>]) {
    let (calls, written, refused) = serve(parts);
    let failed = outcome.refused.or(outcome.at_eof);
    assert_eq!(refused, failed, "{}", shown(&parts.concat()));
    let mut expected: Vec<u16> = Vec::new();
    for (call, request) in calls.iter().zip(requests) {
        match request {
            Some(seen) => assert_eq!(call.as_ref(), Ok(seen)),
            None => assert_eq!(call.as_ref().err(), failed.as_ref()),
        }
        expected.push(
            request
                .as_ref()
                .map_or_else(|| failed.map_or(0, |it| it.status().as_u16()), |_| 200),
        );
    }
    assert_eq!(calls.len(), requests.len());
    expected.extend(failed.filter(|it| !it.in_body).map(|it| it.status().as_u16()));
    assert_eq!(statuses(&written), expected, "{}", shown(&parts.concat()));
}
