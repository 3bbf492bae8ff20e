//! Datagrams.

use crate::net::backoff::Patience;
use crate::net::io::Io;
use crate::reactor::{Direction, Whole};
use std::io;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// A Unix datagram socket.
///
/// ```
/// use roving_runtime::net::UnixDatagram;
///
/// let (one, other) = UnixDatagram::pair()?;
/// one.send(b"ping")?;
/// let mut buf = [0; 16];
/// assert_eq!(other.recv(&mut buf)?, 4);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UnixDatagram {
    io: Io<std::os::unix::net::UnixDatagram>,
}

impl UnixDatagram {
    /// A socket at a socket file of its own.
    ///
    /// # Errors
    /// What bind(2) says: EADDRINUSE (there is such a file), EACCES, ENOENT. EMFILE, ENFILE, ENOMEM.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_std(std::os::unix::net::UnixDatagram::bind(path)?)
    }

    /// A socket without an address.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn unbound() -> io::Result<Self> {
        Self::from_std(std::os::unix::net::UnixDatagram::unbound()?)
    }

    /// Two sockets connected to each other.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = std::os::unix::net::UnixDatagram::pair()?;
        Ok((Self::from_std(one)?, Self::from_std(other)?))
    }

    /// Sets where [`UnixDatagram::send`] sends to.
    ///
    /// # Errors
    /// ENOENT, ECONNREFUSED, EACCES.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.io.socket().connect(path)
    }

    /// Waits for a datagram; what does not fit into `buf` is lost.
    ///
    /// # Errors
    /// What recvfrom(2) says. `TimedOut`, after [`UnixDatagram::set_read_timeout`]. EBADF after
    /// [`UnixDatagram::close`]. An error for which [`is_cancelled`](crate::is_cancelled) is true.
    ///
    /// # Panics
    /// In a stackless future, when it would have to wait.
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io
            .run(Direction::Read, |socket| socket.recv_from(buf).map(Whole))
            .map(|received| received.0)
    }

    /// As [`UnixDatagram::recv_from`], without the sender.
    ///
    /// # Errors
    /// As there.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io
            .run(Direction::Read, |socket| socket.recv(buf).map(Whole))
            .map(|count| count.0)
    }

    /// Sends a datagram, waiting while the receiver has no room for it.
    ///
    /// # Errors
    /// What sendto(2) says, such as EMSGSIZE. `TimedOut`, after [`UnixDatagram::set_write_timeout`]. EBADF
    /// after [`UnixDatagram::close`]. An error for which [`is_cancelled`](crate::is_cancelled) is true.
    ///
    /// # Panics
    /// In a stackless future, when it would have to wait.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io
            .run(Direction::Write, |socket| socket.send(buf).map(Whole))
            .map(|count| count.0)
    }

    /// As [`UnixDatagram::send`], to the socket at `path`.
    ///
    /// # Errors
    /// As there; ENOENT, ECONNREFUSED, EACCES.
    pub fn send_to(&self, buf: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let path = path.as_ref();
        let mut patience = Patience::new(self.io.timeout(Direction::Write).get());
        loop {
            match self.io.socket().send_to(buf, path) {
                // The receiver's queue is full, of which the system tells only those connected to it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => patience.wait()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// For how long one receive may wait; `None`: for ever.
    ///
    /// # Errors
    /// `InvalidInput`: it is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.io.timeout(Direction::Read).set(timeout)
    }

    /// For how long one send may wait; `None`: for ever.
    ///
    /// # Errors
    /// `InvalidInput`: it is zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.io.timeout(Direction::Write).set(timeout)
    }

    /// Closes the socket at once, for all who use this handle: their calls, those that wait included, fail
    /// with EBADF.
    pub fn close(&self) {
        self.io.close();
    }

    /// This side's address.
    ///
    /// # Errors
    /// EBADF after [`UnixDatagram::close`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.socket().local_addr()
    }

    /// Takes over a socket of the standard library's.
    ///
    /// # Errors
    /// It cannot be set to non-blocking mode.
    pub fn from_std(socket: std::os::unix::net::UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { io: Io::new(socket) })
    }

    /// A socket of the standard library's, in blocking mode.
    ///
    /// # Errors
    /// EBADF after [`UnixDatagram::close`].
    pub fn into_std(self) -> io::Result<std::os::unix::net::UnixDatagram> {
        let socket = self.io.into_socket();
        socket.set_nonblocking(false)?;
        Ok(socket)
    }
}

crate::net::macros::descriptor!(UnixDatagram, std::os::unix::net::UnixDatagram);
