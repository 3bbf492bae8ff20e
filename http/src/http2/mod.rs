//! HTTP/2: a connection with many requests at once. hyper and h2 speak the protocol; here are the times, the limits they do
//! not have, and what is asked of a request beyond RFC 9113's own rules.
//!
//! | what | where |
//! |---|---|
//! | a connection: its settings, its idle time, its end | `connection.rs` |
//! | what its streams have in common, and what is known of each | `streams.rs` |
//! | the future of a stream, and the time it may wait for its client | `stream.rs` |
//! | a request: what is refused, and a response's body | `service.rs` |
//! | a stream that begins with bytes read before | `prefixed.rs` |
//!
//! Who limits what:
//!
//! | flood | limit |
//! |---|---|
//! | streams at once | SETTINGS_MAX_CONCURRENT_STREAMS (`Config::http2_streams`), beyond which h2 refuses them |
//! | requests with the application | `Config::in_flight`, as with HTTP/1.1: streams are requests |
//! | header lists, CONTINUATION | `Config::max_head`: h2 answers 431, and ends the connection after the frames that could hold so much |
//! | streams reset before they are accepted | h2: 20 that wait at once, then GOAWAY |
//! | streams reset while they are answered | ours: `MOST_RESETS` more than were finished |
//! | streams that break the protocol | h2: 1,024 that we had to reset |
//! | PING, SETTINGS | h2 reads on only when its answer to the last one has been written |
//! | a client that takes nothing | of the connection: the write timeout; of a stream, which it may do with a window of zero: the same |
//! | memory | 256 KiB a stream and 1 MiB a connection of request bodies that nobody has read, 64 KiB a stream of responses |

mod connection;
mod prefixed;
mod service;
mod stream;
mod streams;

pub(crate) use connection::{End, serve};
