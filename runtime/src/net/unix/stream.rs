//! Streams.

use crate::net::backoff::Patience;
use crate::net::io::Io;
use crate::net::stream_io;
use crate::reactor::{Direction, Whole};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// A connection over a Unix socket.
///
/// All calls take `&self`: in an `Arc`, one fiber may read while another writes.
///
/// ```
/// use roving_runtime::net::UnixStream;
/// use std::io::{Read, Write};
///
/// let (mut one, mut other) = UnixStream::pair()?;
/// one.write_all(b"ping")?;
/// drop(one);
/// let mut text = String::new();
/// other.read_to_string(&mut text)?;
/// assert_eq!(text, "ping");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UnixStream {
    io: Io<std::os::unix::net::UnixStream>,
}

impl UnixStream {
    /// Connects to the socket file at `path`, waiting while the listener's backlog is full.
    ///
    /// # Errors
    /// What connect(2) says: ENOENT, ECONNREFUSED, EACCES. EMFILE, ENFILE, ENOMEM. An error for which
    /// [`is_cancelled`](crate::is_cancelled) is true.
    ///
    /// # Panics
    /// In a stackless future, when it would have to wait.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::connect_to(&SockAddr::unix(path)?, None)
    }

    /// As [`UnixStream::connect`], for at most `timeout`.
    ///
    /// # Errors
    /// As there; `TimedOut`.
    ///
    /// # Panics
    /// As there.
    pub fn connect_timeout(path: impl AsRef<Path>, timeout: Duration) -> io::Result<Self> {
        Self::connect_to(&SockAddr::unix(path)?, Some(timeout))
    }

    /// As [`UnixStream::connect`], to an address, which may be an abstract one.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn connect_addr(addr: &SocketAddr) -> io::Result<Self> {
        let sock_addr = match (addr.as_pathname(), addr.as_abstract_name()) {
            (Some(path), _) => SockAddr::unix(path)?,
            (None, Some(name)) => {
                let path: Vec<u8> = std::iter::once(0).chain(name.iter().copied()).collect();
                SockAddr::unix(OsStr::from_bytes(&path))?
            }
            (None, None) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the address has no name",
                ));
            }
        };
        Self::connect_to(&sock_addr, None)
    }

    fn connect_to(addr: &SockAddr, timeout: Option<Duration>) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        let mut patience = Patience::new(timeout);
        loop {
            match socket.connect(addr) {
                Ok(()) => return Ok(Self::from_nonblocking(socket.into())),
                // The backlog is full, and the system has no event for the day it is not.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => patience.wait()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Two sockets connected to each other.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = Socket::pair(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        Ok((
            Self::from_nonblocking(one.into()),
            Self::from_nonblocking(other.into()),
        ))
    }

    pub(super) fn from_nonblocking(stream: std::os::unix::net::UnixStream) -> Self {
        Self { io: Io::new(stream) }
    }

    /// Reads without taking the data away.
    ///
    /// # Errors
    /// As [`UnixStream::read`].
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let peek = |socket: &std::os::unix::net::UnixStream| {
            // SAFETY: bytes that are initialised already may be written as ones that are not.
            let buf = unsafe { &mut *(std::ptr::from_mut::<[u8]>(buf) as *mut [MaybeUninit<u8>]) };
            SockRef::from(socket).peek(buf).map(Whole)
        };
        self.io.run(Direction::Read, peek).map(|count| count.0)
    }

    /// Ends one direction, or both, for both sides and all clones.
    ///
    /// # Errors
    /// ENOTCONN: the connection is gone already. EBADF after [`UnixStream::close`].
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.socket().shutdown(how)
    }

    /// The other side's address.
    ///
    /// # Errors
    /// ENOTCONN: the connection is gone. EBADF after [`UnixStream::close`].
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.socket().peer_addr()
    }

    /// This side's address.
    ///
    /// # Errors
    /// EBADF after [`UnixStream::close`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.socket().local_addr()
    }

    /// The connection's pending error, which is then forgotten.
    ///
    /// # Errors
    /// EBADF after [`UnixStream::close`].
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.socket().take_error()
    }

    /// Another handle to the same connection, to be closed by itself, with timeouts of its own (none to begin
    /// with).
    ///
    /// # Errors
    /// EMFILE; EBADF after [`UnixStream::close`].
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::from_nonblocking(self.io.socket().try_clone()?))
    }

    /// Takes over a connection of the standard library's.
    ///
    /// # Errors
    /// It cannot be set to non-blocking mode.
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::from_nonblocking(stream))
    }

    /// A connection of the standard library's, in blocking mode (and its clones with it).
    ///
    /// # Errors
    /// EBADF after [`UnixStream::close`].
    pub fn into_std(self) -> io::Result<std::os::unix::net::UnixStream> {
        let stream = self.io.into_socket();
        stream.set_nonblocking(false)?;
        Ok(stream)
    }
}

// A message that carries descriptors or credentials cuts a read short, though more may follow.
stream_io::stream!(UnixStream, std::os::unix::net::UnixStream, drained_by_short_reads: false);
crate::net::macros::descriptor!(UnixStream, std::os::unix::net::UnixStream);
