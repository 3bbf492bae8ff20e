//! hyper behind the stream, with a service that notes what it sees.

use crate::draft::Seen;
use crate::shown;
use crate::wire::{Driven, Wire};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use roving_http::strict::{Config, Limits, Refused, Strict, drive};
use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::Arc;

/// What the service saw: a request, or why there was none.
pub(crate) type Calls = RefCell<Vec<Result<Seen, Refused>>>;

/// Fields in the order of their names.
pub(crate) fn sorted(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> = map
        .iter()
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}

/// Takes a request in, whole, and answers 200, or with the status of what is wrong.
pub(crate) async fn answer(
    calls: &Calls,
    request: Request<Incoming>,
) -> Result<Response<String>, Infallible> {
    let (parts, body) = request.into_parts();
    let mut seen = Seen {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        version: format!("{:?}", parts.version),
        fields: sorted(&parts.headers),
        ..Seen::default()
    };
    let (status, call) = match body.collect().await {
        Ok(body) => {
            seen.trailers = body.trailers().map(sorted).unwrap_or_default();
            seen.body = body.to_bytes().to_vec();
            (StatusCode::OK, Ok(seen))
        }
        Err(error) => {
            let refused = Refused::find(&error).expect("what is wrong with a body is known");
            (refused.status(), Err(*refused))
        }
    };
    calls.borrow_mut().push(call);
    Ok(Response::builder()
        .status(status)
        .body(String::new())
        .expect("a right response"))
}

/// The service's calls, what was written, and the connection's refusal, for a client that waits for its answers and then
/// goes.
pub(crate) fn serve(parts: &[&[u8]]) -> (Vec<Result<Seen, Refused>>, String, Option<Refused>) {
    let wire = Wire::with(parts.iter().copied());
    let calls = Calls::default();
    let mut builder = http1::Builder::new();
    Limits::default().configure(&mut builder);
    let strict = Strict::new(wire.clone(), Arc::new(Config::default()));
    let watch = strict.watch();
    let connection = builder.serve_connection(strict, service_fn(|request| answer(&calls, request)));
    let mut driven = Driven::new(drive(connection));
    let done = match driven.run() {
        Some(done) => done,
        None => {
            wire.end();
            driven.run().expect("the connection ends after its client")
        }
    };
    done.unwrap_or_else(|error| panic!("{error:?}: {}", shown(&parts.concat())));
    assert!(wire.is_shut(), "{}", shown(&parts.concat()));
    drop(driven);
    (calls.into_inner(), wire.written(), watch.refused())
}
