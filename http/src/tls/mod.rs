//! TLS (1.2 and 1.3), as an adapter between a stream and those who read from it and write to it.
//!
//! | what | where |
//! |---|---|
//! | certificates, keys and authorities from files, and reading them again | `files.rs` |
//! | the first steps of a connection | `handshake.rs` |
//! | the stream | `stream.rs` |
//! | bytes on their way between the two | `wire.rs` |
//!
//! rustls keeps the state of a connection and does no I/O; here is the I/O, in polls, with no thread and no runtime of its own.
//! tokio-rustls would do the same over tokio's traits, which neither hyper nor our streams speak.
//!
//! *No plaintext after an error.* What rustls refuses makes the stream fail for good, also for bytes that were decrypted
//! before it and not yet read. An end of the connection without `close_notify` is an error, never an end: whoever cuts a
//! connection must not be able to shorten what is sent over it.
//!
//! *Why no wake-up is lost.* A read is pending only when the read from the connection was, in the same call; a write or a
//! flush only when the write to the connection was. What a read has to send (tickets, the answer to a key update) is tried
//! in every read; where the connection does not take it, that write has registered the waker.

mod files;
mod handshake;
mod stream;
mod wire;

pub use files::{ClientAuth, Tls, TlsError, TlsFiles};
pub(crate) use handshake::{Refusal, accept, linger};

/// What a TLS connection has agreed on.
#[derive(Debug, Clone)]
pub struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: &'static str,
    /// The cipher suite, by its name in the registry of IANA.
    pub cipher: String,
    /// The client's certificate in DER, which has been verified; `None` when it has shown none.
    pub client_certificate: Option<Vec<u8>>,
}
