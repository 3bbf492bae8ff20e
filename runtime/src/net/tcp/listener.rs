//! Listeners.

use super::TcpStream;
use crate::net::ToSocketAddrs;
use crate::net::io::Io;
use crate::net::sys;
use crate::reactor::{Direction, Whole};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Connections the system keeps for us; it may keep fewer (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// A TCP socket that accepts connections.
///
/// ```
/// use roving_runtime::{Runtime, net::TcpListener, net::TcpStream};
/// use std::io::{Read, Write};
///
/// let runtime = Runtime::builder().workers(2).build()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let addr = listener.local_addr()?;
/// let server = runtime.spawn(move || {
///     let (mut stream, _peer) = listener.accept()?;
///     stream.write_all(b"hello")
/// });
/// let mut text = String::new();
/// TcpStream::connect(addr)?.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// server.join()??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TcpListener {
    io: Io<std::net::TcpListener>,
}

impl TcpListener {
    /// Listens on the first of the addresses that can be had, with SO_REUSEADDR and a backlog of 4,096. Port
    /// zero: the system chooses one.
    ///
    /// # Errors
    /// None of the addresses can be had: the last one's error. EMFILE, ENFILE, ENOMEM.
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::bind_with_backlog(addr, BACKLOG)
    }

    /// As [`TcpListener::bind`], with another backlog.
    ///
    /// # Errors
    /// As there.
    pub fn bind_with_backlog(addr: impl ToSocketAddrs, backlog: i32) -> io::Result<Self> {
        super::stream::first_of(addr.resolve()?, |addr| Self::listen(addr, backlog))
    }

    fn listen(addr: SocketAddr, backlog: i32) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(addr),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(backlog)?;
        Ok(Self {
            io: Io::new(socket.into()),
        })
    }

    /// The next connection, and who made it.
    ///
    /// # Errors
    /// What accept4(2) says, among it EMFILE and ENFILE (no descriptor is free; the connection waits in the
    /// backlog) and errors of a single connection: [`AcceptBackoff`](crate::net::AcceptBackoff) tells them
    /// apart. `TimedOut`, after [`TcpListener::set_timeout`]. EBADF after [`TcpListener::close`]. An error for
    /// which [`is_cancelled`](crate::is_cancelled) is true.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.io.run(Direction::Read, accept).map(|accepted| accepted.0)
    }

    /// As [`TcpListener::accept`], for a stackless future.
    ///
    /// # Errors
    /// As there, without the last.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        Poll::Ready(ready!(self.io.poll_run(Direction::Read, cx, accept)).map(|accepted| accepted.0))
    }

    /// As [`TcpListener::accept`], but never waits.
    ///
    /// # Errors
    /// As there; `WouldBlock` when there is no connection.
    pub fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.io
            .try_run(Direction::Read, accept)
            .map(|accepted| accepted.0)
    }

    /// The connections, one after another, for ever.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// For how long an accept may wait; `None`: for ever.
    ///
    /// # Errors
    /// `InvalidInput`: it is zero.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.io.timeout(Direction::Read).set(timeout)
    }

    /// Stops listening, at once: accepts, those that wait included, fail with EBADF.
    pub fn close(&self) {
        self.io.close();
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// EBADF after [`TcpListener::close`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.socket().local_addr()
    }

    /// The time-to-live of packets sent.
    ///
    /// # Errors
    /// EBADF after [`TcpListener::close`].
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.socket().ttl()
    }

    /// Sets the time-to-live of packets sent.
    ///
    /// # Errors
    /// EINVAL; EBADF after [`TcpListener::close`].
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.io.socket().set_ttl(ttl)
    }

    /// Another listener on the same socket, to be closed by itself.
    ///
    /// # Errors
    /// EMFILE; EBADF after [`TcpListener::close`].
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            io: Io::new(self.io.socket().try_clone()?),
        })
    }

    /// Takes over a listener of the standard library's.
    ///
    /// # Errors
    /// It cannot be set to non-blocking mode.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            io: Io::new(listener),
        })
    }

    /// A listener of the standard library's, in blocking mode.
    ///
    /// # Errors
    /// EBADF after [`TcpListener::close`].
    pub fn into_std(self) -> io::Result<std::net::TcpListener> {
        let listener = self.io.into_socket();
        listener.set_nonblocking(false)?;
        Ok(listener)
    }
}

fn accept(listener: &std::net::TcpListener) -> io::Result<Whole<(TcpStream, SocketAddr)>> {
    let (fd, addr) = sys::accept(listener.as_fd())?;
    let addr = addr.as_socket().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the listening socket's address family is not that of TCP",
        )
    })?;
    Ok(Whole((TcpStream::from_nonblocking(fd.into()), addr)))
}

/// See [`TcpListener::incoming`]. Errors do not end it.
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

crate::net::macros::descriptor!(TcpListener, std::net::TcpListener);
