//! The requests of a connection: what is refused beside what h2 refuses, and how their responses are sent.

use super::streams::{Stream, Streams};
use crate::response_body::{BrokenOff, ResponseBody};
use crate::service::{Reply, Requests};
use crate::strict::Fault;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::Service;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Given to h2 at once, so that a client that takes its bytes slowly is seen to take some.
const PIECE: usize = 16 << 10;

/// What serves the requests of one connection.
pub(super) struct Service2 {
    pub(super) requests: Requests,
    pub(super) streams: Arc<Streams>,
}

impl Service<Request<Incoming>> for Service2 {
    type Response = Response<Body2>;
    type Error = Infallible;
    type Future = Reply2;

    fn call(&self, mut request: Request<Incoming>) -> Reply2 {
        let stream = self.streams.open();
        let head_only = request.method() == Method::HEAD;
        let (mut parts, body) = request.into_parts();
        // First: as fields they are one.
        join_cookies(&mut parts);
        let refusal = check(&parts, self.requests.max_fields()).err().map(Fault::status);
        request = Request::from_parts(parts, body);
        Reply2 {
            reply: self.requests.begin(request, refusal),
            stream,
            head_only,
        }
    }
}

/// What HTTP/1.1 refuses, as far as h2 does not.
fn check(head: &Parts, fields: usize) -> Result<(), Fault> {
    if head.headers.len() > fields {
        return Err(Fault::FieldCount);
    }
    if head.method == Method::CONNECT {
        return Err(Fault::Connect);
    }
    let mut expectations = head.headers.get_all(header::EXPECT).iter();
    if expectations.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Fault::Expect);
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Fault::HostTwice);
    }
    let authority = head
        .uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let host = host.map(HeaderValue::as_bytes);
    match (authority, host) {
        (None, None) => return Err(Fault::HostMissing),
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            return Err(Fault::HostOther);
        }
        _ => {}
    }
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    crate::strict::check_parts(head.method.as_str(), target, authority.or(host))
}

/// RFC 9113, 8.2.3: a client may send each pair in a field of its own.
fn join_cookies(head: &mut Parts) {
    let mut cookies = head.headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        head.headers.insert(header::COOKIE, joined);
    }
}

/// The future of one response.
pub(super) struct Reply2 {
    reply: Reply,
    stream: Arc<Stream>,
    head_only: bool,
}

impl Future for Reply2 {
    type Output = Result<Response<Body2>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = ready!(Pin::new(&mut self.reply).poll(context));
        let (mut head, mut body) = response.into_parts();
        // hyper leaves them in, with a warning to nobody.
        head.headers.remove(header::CONNECTION);
        let length = body.size_hint().exact();
        let has_no_body = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if self.head_only || has_no_body {
            // With HTTP/1.1, hyper sees to that.
            if let (false, Some(length @ 1..)) = (has_no_body, length) {
                head.headers
                    .entry(header::CONTENT_LENGTH)
                    .or_insert(length.into());
            }
            body = ResponseBody::whole(Bytes::new());
        }
        self.stream.give();
        if body.is_end_stream() {
            self.stream.finish();
        }
        let body = Body2 {
            body,
            rest: Bytes::new(),
            stream: self.stream.clone(),
        };
        Poll::Ready(Ok(Response::from_parts(head, body)))
    }
}

/// A response's body, in pieces.
pub(super) struct Body2 {
    body: ResponseBody,
    rest: Bytes,
    stream: Arc<Stream>,
}

impl Body for Body2 {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => {
                    self.stream.ask();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                // Its end, or the application's failure: neither is the client's doing.
                end => {
                    self.stream.finish();
                    return end;
                }
            }
        }
        let count = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(count);
        self.stream.give();
        if self.is_end_stream() {
            self.stream.finish();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size_hint().exact() {
            Some(length) => SizeHint::with_exact(length + self.rest.len() as u64),
            None => SizeHint::default(),
        }
    }
}
