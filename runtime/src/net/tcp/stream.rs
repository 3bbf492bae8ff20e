//! Streams.

use crate::fiber::{clock, deadline_after};
use crate::net::ToSocketAddrs;
use crate::net::io::Io;
use crate::net::stream_io;
use crate::reactor::{Direction, Whole};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A TCP connection.
///
/// All calls take `&self`: in an `Arc`, one fiber may read while another writes.
///
/// ```
/// use roving_runtime::net::{TcpListener, TcpStream};
/// use std::io::{Read, Write};
///
/// // Plain threads may use it too.
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut client = TcpStream::connect(listener.local_addr()?)?;
/// let (mut server, _) = listener.accept()?;
/// client.write_all(b"ping")?;
/// let mut buf = [0; 4];
/// server.read_exact(&mut buf)?;
/// assert_eq!(&buf, b"ping");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TcpStream {
    io: Io<std::net::TcpStream>,
}

/// The outcome of the first address it succeeds for, or the last error.
pub(in crate::net) fn first_of<T>(
    addrs: Vec<SocketAddr>,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = io::Error::from(io::ErrorKind::InvalidInput);
    for addr in addrs {
        match attempt(addr) {
            Ok(done) => return Ok(done),
            // It concerns the caller, not the address.
            Err(error) if crate::reactor::is_cancelled(&error) => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl TcpStream {
    /// Connects to the first of the addresses that answers.
    ///
    /// # Errors
    /// None answers: the last one's error. EMFILE, ENFILE, ENOMEM. The name is unknown. An error for which
    /// [`is_cancelled`](crate::is_cancelled) is true: the calling fiber was cancelled.
    ///
    /// # Panics
    /// In a stackless future, when it would have to wait.
    pub fn connect(addr: impl ToSocketAddrs) -> io::Result<Self> {
        first_of(addr.resolve()?, |addr| Self::connect_to(addr, None))
    }

    /// As [`TcpStream::connect`], for at most `timeout` for all addresses together. (The look-up of a name is
    /// not counted.)
    ///
    /// # Errors
    /// As there; `TimedOut`.
    ///
    /// # Panics
    /// As there.
    pub fn connect_timeout(addr: impl ToSocketAddrs, timeout: Duration) -> io::Result<Self> {
        let addrs = addr.resolve()?;
        let deadline = deadline_after(timeout);
        first_of(addrs, |addr| Self::connect_to(addr, deadline))
    }

    fn connect_to(addr: SocketAddr, deadline: Option<Instant>) -> io::Result<Self> {
        let stream = Self::start_connecting(addr)?;
        let left = deadline.map(|at| at.saturating_duration_since(clock::now()));
        stream.io.run_for(left, Direction::Write, connected)?;
        Ok(stream)
    }

    /// Begins to connect, for a stackless future: [`TcpStream::poll_connected`] tells when it is done.
    ///
    /// # Errors
    /// As for [`TcpStream::connect`].
    pub fn start_connecting(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(addr),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        match socket.connect(&addr.into()) {
            Ok(()) => Ok(Self::from_nonblocking(socket.into())),
            // EINTR: it goes on all the same.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => Ok(Self {
                io: Io::connecting(socket.into()),
            }),
            Err(error) => Err(error),
        }
    }

    /// For a stackless future: `Pending` until the connection is there.
    ///
    /// # Errors
    /// Why it never will be.
    pub fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_run(Direction::Write, cx, connected).map_ok(|_| ())
    }

    pub(super) fn from_nonblocking(stream: std::net::TcpStream) -> Self {
        Self { io: Io::new(stream) }
    }

    /// Reads without taking the data away.
    ///
    /// # Errors
    /// As [`TcpStream::read`].
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io
            .run(Direction::Read, |stream| stream.peek(buf).map(Whole))
            .map(|count| count.0)
    }

    /// Ends one direction, or both, for both sides and all clones.
    ///
    /// # Errors
    /// ENOTCONN: the connection is gone already. EBADF after [`TcpStream::close`].
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.socket().shutdown(how)
    }

    /// The other side's address.
    ///
    /// # Errors
    /// ENOTCONN: the connection is gone. EBADF after [`TcpStream::close`].
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.socket().peer_addr()
    }

    /// This side's address.
    ///
    /// # Errors
    /// EBADF after [`TcpStream::close`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.socket().local_addr()
    }

    /// Whether small writes are sent at once (TCP_NODELAY).
    ///
    /// # Errors
    /// EBADF after [`TcpStream::close`].
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.socket().nodelay()
    }

    /// Sets whether small writes are sent at once.
    ///
    /// # Errors
    /// EBADF after [`TcpStream::close`].
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.io.socket().set_nodelay(nodelay)
    }

    /// The time-to-live of packets sent.
    ///
    /// # Errors
    /// EBADF after [`TcpStream::close`].
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.socket().ttl()
    }

    /// Sets the time-to-live of packets sent.
    ///
    /// # Errors
    /// EINVAL; EBADF after [`TcpStream::close`].
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.io.socket().set_ttl(ttl)
    }

    /// What the drop does with data not yet sent (SO_LINGER): with zero it is thrown away and the other side
    /// gets a reset.
    ///
    /// # Errors
    /// EBADF after [`TcpStream::close`].
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        SockRef::from(self.io.socket()).set_linger(linger)
    }

    /// The connection's pending error, which is then forgotten.
    ///
    /// # Errors
    /// EBADF after [`TcpStream::close`].
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.socket().take_error()
    }

    /// Another handle to the same connection, to be closed by itself, with timeouts of its own (none to begin
    /// with).
    ///
    /// # Errors
    /// EMFILE; EBADF after [`TcpStream::close`].
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::from_nonblocking(self.io.socket().try_clone()?))
    }

    /// Takes over a connection of the standard library's.
    ///
    /// # Errors
    /// It cannot be set to non-blocking mode.
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::from_nonblocking(stream))
    }

    /// A connection of the standard library's, in blocking mode (and its clones with it).
    ///
    /// # Errors
    /// EBADF after [`TcpStream::close`].
    pub fn into_std(self) -> io::Result<std::net::TcpStream> {
        let stream = self.io.into_socket();
        stream.set_nonblocking(false)?;
        Ok(stream)
    }
}

/// `WouldBlock` while the connection is being made.
fn connected(stream: &std::net::TcpStream) -> io::Result<Whole<()>> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(Whole(())),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error),
    }
}

stream_io::stream!(TcpStream, std::net::TcpStream, drained_by_short_reads: true);
crate::net::macros::descriptor!(TcpStream, std::net::TcpStream);
