//! HTTP for roving: hyper's connections as stackless futures on roving's workers, a strict checker of raw heads and
//! chunks in front of them, and one fiber per request. Knows no Python.
//!
//! `README.md` beside this crate's manifest says how a request travels, and who may block where.

mod acceptor;
mod admin;
mod config;
mod connection;
mod exchange;
mod guard;
mod half_open;
mod http2;
mod limit;
mod link;
mod listener;
mod meter;
mod pipe;
mod proxy;
mod registry;
mod request_body;
mod responder;
mod response_body;
mod server;
mod service;
mod slot;
pub mod strict;
mod tls;
mod wait;

pub use admin::{Admin, AdminListener, Exposition, Kind, More};
pub use config::Config;
pub use exchange::{Application, Exchange};
pub use hyper::ext::ReasonPhrase;
pub use limit::Permit;
pub use listener::{Endpoint, Listener};
pub use proxy::{BadField, Origin, Proxies};
pub use request_body::{BodyError, Chunk, RequestBody};
pub use responder::{Gone, Head, Responder, Written};
pub use server::{Server, Statistics};
pub use tls::{ClientAuth, Tls, TlsError, TlsFiles, TlsInfo};
