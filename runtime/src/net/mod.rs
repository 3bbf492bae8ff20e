//! Sockets for fibers: calls that look blocking and park. On a plain thread they block the thread.
//!
//! - [`TcpListener`], [`TcpStream`], [`UdpSocket`], [`UnixListener`], [`UnixStream`], [`UnixDatagram`] follow
//!   the standard library's types of the same names; every call takes `&self`, so one fiber may read a stream
//!   while another writes it.
//! - Timeouts are for each call: the error's kind is `TimedOut`. A cancelled fiber's call fails with an error
//!   for which [`is_cancelled`](crate::is_cancelled) is true; what it would have moved is unmoved.
//! - `close` ends a socket for all who use it, at once: their calls fail with EBADF, those that wait included.
//! - The descriptors are in non-blocking mode, as long as they are ours.
//! - `poll_*` is for stackless futures, which must not block their worker: they ask, and are woken.

mod addr;
mod backoff;
mod io;
mod lookup;
mod macros;
mod stream_io;
mod sys;
mod tcp;
mod udp;
mod unix;

pub use addr::ToSocketAddrs;
pub use backoff::AcceptBackoff;
pub(crate) use lookup::set_blocking;
pub use tcp::{Incoming, TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixDatagram, UnixListener, UnixStream};
