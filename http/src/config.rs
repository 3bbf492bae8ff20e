//! Limits and times of a server.

use crate::strict::Limits;
use crate::tls::Tls;
use http::HeaderValue;
use std::sync::Arc;
use std::time::Duration;

/// Limits and times of a [`Server`](crate::Server).
///
/// ```
/// let config = roving_http::Config { in_flight: 32, ..roving_http::Config::default() };
/// assert_eq!(config.prefetch, 64 << 10);
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    /// How many requests may be with the application at once. Requests are counted, not connections.
    pub in_flight: usize,
    /// How many more may wait for their turn; the others are refused with 503.
    pub queue: usize,
    /// How much of a request's body is read before the application is called, in bytes.
    pub prefetch: usize,
    /// The longest request body in bytes; `None` for no limit.
    pub max_body: Option<u64>,
    /// The longest target of a request line in bytes.
    pub max_target: usize,
    /// How many header fields a request may have; at most 1,000.
    pub max_headers: usize,
    /// How many bytes all header fields of a request may have together; at most 256 KiB.
    pub max_head: usize,
    /// For how long a head may take, from its first byte to its last; also how long a new connection may say nothing.
    pub header_timeout: Duration,
    /// For how long a connection may be idle between two requests.
    pub keep_alive: Duration,
    /// For how long whoever reads a body may wait for it in all, before the bytes received so far count.
    pub body_grace: Duration,
    /// What a body must bring, in bytes a second, once that grace is over; 0 for no such rule.
    pub min_body_rate: u32,
    /// For how long a client may take nothing of what is being sent to it.
    pub write_timeout: Duration,
    /// How much of a streamed response may wait for a client, in bytes, before its writer does.
    pub write_buffer: usize,
    /// Whether a client of HTTP/1 that ends its sending half still gets its response. One that has gone for good looks the same
    /// until something is sent to it, so while its request is still in the queue it counts as that.
    pub half_close: bool,
    /// Whether HTTP/2 is spoken: with TLS, where the client chooses it; without, where it begins with it.
    pub http2: bool,
    /// How many requests a client may have open on one HTTP/2 connection.
    pub http2_streams: u32,
    /// TLS, on all listeners.
    pub tls: Option<Arc<Tls>>,
    /// The `Server` field of responses that have none.
    pub server: Option<HeaderValue>,
    /// Whether responses get a `Date`.
    pub date: bool,
    /// Whether requests and bytes are counted, for an [`Admin`](crate::Admin) to tell.
    pub meter: bool,
}

/// What a request line has beside its target: the longest method, two spaces and the version.
const AROUND_TARGET: usize = 32 + 2 + 8;

impl Config {
    /// As the checker takes them.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            request_line: self.max_target.saturating_add(AROUND_TARGET),
            fields: self.max_headers,
            field_bytes: self.max_head,
            body: self.max_body.unwrap_or(u64::MAX),
            ..Limits::default()
        }
        .clamped()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            in_flight: 64,
            queue: 1024,
            prefetch: 64 << 10,
            max_body: None,
            max_target: 8190,
            max_headers: 100,
            max_head: 64 << 10,
            header_timeout: Duration::from_secs(15),
            keep_alive: Duration::from_secs(5),
            body_grace: Duration::from_secs(30),
            min_body_rate: 240,
            write_timeout: Duration::from_secs(60),
            write_buffer: 64 << 10,
            half_close: true,
            http2: true,
            http2_streams: 128,
            tls: None,
            server: None,
            date: true,
            meter: false,
        }
    }
}
