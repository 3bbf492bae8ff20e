//! Listeners.

use super::UnixStream;
use crate::net::io::Io;
use crate::net::sys;
use crate::reactor::{Direction, Whole};
use socket2::SockAddr;
use std::io;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

/// A Unix socket that accepts connections. The file stays when it is dropped.
///
/// ```
/// use roving_runtime::net::{UnixListener, UnixStream};
/// use std::io::{Read, Write};
///
/// let path = std::env::temp_dir().join(format!("roving-{}", std::process::id()));
/// let listener = UnixListener::bind(&path)?;
/// let mut client = UnixStream::connect(&path)?;
/// std::fs::remove_file(&path)?;
/// let (mut server, _) = listener.accept()?;
/// client.write_all(b"ping")?;
/// let mut buf = [0; 4];
/// server.read_exact(&mut buf)?;
/// assert_eq!(&buf, b"ping");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UnixListener {
    io: Io<std::os::unix::net::UnixListener>,
}

impl UnixListener {
    /// Makes a socket file and listens there.
    ///
    /// # Errors
    /// What bind(2) says: EADDRINUSE (there is such a file), EACCES, ENOENT. EMFILE, ENFILE, ENOMEM.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_std(std::os::unix::net::UnixListener::bind(path)?)
    }

    /// Listens at an address, which may be an abstract one.
    ///
    /// # Errors
    /// As [`UnixListener::bind`].
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<Self> {
        Self::from_std(std::os::unix::net::UnixListener::bind_addr(addr)?)
    }

    /// The next connection, and who made it.
    ///
    /// # Errors
    /// What accept4(2) says, among it EMFILE and ENFILE: see [`AcceptBackoff`](crate::net::AcceptBackoff).
    /// `TimedOut`, after [`UnixListener::set_timeout`]. EBADF after [`UnixListener::close`]. An error for
    /// which [`is_cancelled`](crate::is_cancelled) is true.
    ///
    /// # Panics
    /// In a stackless future, when it would have to wait.
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        self.io.run(Direction::Read, accept).map(|accepted| accepted.0)
    }

    /// As [`UnixListener::accept`], for a stackless future.
    ///
    /// # Errors
    /// As there, but for timeouts and cancellation.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(UnixStream, SocketAddr)>> {
        self.io
            .poll_run(Direction::Read, cx, accept)
            .map_ok(|accepted| accepted.0)
    }

    /// As [`UnixListener::accept`], but never waits.
    ///
    /// # Errors
    /// As there; `WouldBlock` when there is no connection.
    pub fn try_accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        self.io
            .try_run(Direction::Read, accept)
            .map(|accepted| accepted.0)
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
    /// EBADF after [`UnixListener::close`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.socket().local_addr()
    }

    /// Another listener on the same socket, to be closed by itself.
    ///
    /// # Errors
    /// EMFILE; EBADF after [`UnixListener::close`].
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            io: Io::new(self.io.socket().try_clone()?),
        })
    }

    /// Takes over a listener of the standard library's.
    ///
    /// # Errors
    /// It cannot be set to non-blocking mode.
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            io: Io::new(listener),
        })
    }

    /// A listener of the standard library's, in blocking mode.
    ///
    /// # Errors
    /// EBADF after [`UnixListener::close`].
    pub fn into_std(self) -> io::Result<std::os::unix::net::UnixListener> {
        let listener = self.io.into_socket();
        listener.set_nonblocking(false)?;
        Ok(listener)
    }
}

fn accept(listener: &std::os::unix::net::UnixListener) -> io::Result<Whole<(UnixStream, SocketAddr)>> {
    let (fd, addr) = sys::accept(listener.as_fd())?;
    Ok(Whole((UnixStream::from_nonblocking(fd.into()), to_std(&addr)?)))
}

fn to_std(addr: &SockAddr) -> io::Result<SocketAddr> {
    if !addr.is_unix() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the listening socket is no Unix socket",
        ));
    }
    match addr.as_abstract_namespace() {
        Some(name) => SocketAddr::from_abstract_name(name),
        // An empty path: most who connect have no name.
        None => SocketAddr::from_pathname(addr.as_pathname().unwrap_or(Path::new(""))),
    }
}

crate::net::macros::descriptor!(UnixListener, std::os::unix::net::UnixListener);
