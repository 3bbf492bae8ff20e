//! One request and the way to answer it.

use crate::limit::Permit;
use crate::listener::Endpoint;
use crate::request_body::RequestBody;
use crate::responder::Responder;
use roving_runtime::Handle;
use std::fmt::Display;
use std::sync::Arc;

/// One request, and all it takes to answer it.
#[derive(Debug)]
pub struct Exchange {
    /// The head of the request.
    pub request: http::request::Parts,
    /// Its body, the first part of which has come.
    pub body: RequestBody,
    /// How it is answered.
    pub responder: Responder,
    /// Who asks whom.
    pub endpoint: Arc<Endpoint>,
    /// Its right to be worked on. While there are as many as the limit allows, others wait: to be dropped last.
    pub permit: Permit,
}

/// What answers requests.
pub trait Application: Send + Sync + 'static {
    /// Takes over an exchange. Called on a worker, in the poll of the connection: it must not block, so it spawns a fiber.
    /// `handle` is the runtime's.
    fn call(&self, handle: &Handle, exchange: Exchange);

    /// Is told of a client that was turned away: its request was malformed, or over a limit, and has been answered; its TLS
    /// handshake failed; or it resets the HTTP/2 streams it opens. Called as `call` is.
    fn refused(&self, endpoint: &Endpoint, why: &dyn Display) {
        let _ = (endpoint, why);
    }
}

impl<F: Fn(Exchange) + Send + Sync + 'static> Application for F {
    fn call(&self, _: &Handle, exchange: Exchange) {
        self(exchange);
    }
}
