//! UDP.

use super::ToSocketAddrs;
use super::io::Io;
use super::tcp::first_of;
use crate::reactor::{Direction, Whole};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

/// A UDP socket.
///
/// ```
/// use roving_runtime::net::UdpSocket;
///
/// let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// one.send_to(b"ping", other.local_addr()?)?;
/// let mut buf = [0; 16];
/// let (count, from) = other.recv_from(&mut buf)?;
/// assert_eq!((&buf[..count], from), (&b"ping"[..], one.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    io: Io<std::net::UdpSocket>,
}

impl UdpSocket {
    /// A socket at the first of the addresses that can be had. Port zero: the system chooses one.
    ///
    /// # Errors
    /// None of the addresses can be had: the last one's error. EMFILE, ENFILE, ENOMEM.
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        // One address at a time, and numeric: the standard library looks nothing up here.
        first_of(addr.resolve()?, |addr| {
            Self::from_std(std::net::UdpSocket::bind(addr)?)
        })
    }

    /// Sets where [`UdpSocket::send`] sends to, and from where alone datagrams are received.
    ///
    /// # Errors
    /// None of the addresses will do: the last one's error.
    pub fn connect(&self, addr: impl ToSocketAddrs) -> io::Result<()> {
        first_of(addr.resolve()?, |addr| self.io.socket().connect(addr))
    }

    /// Waits for a datagram; what does not fit into `buf` is lost.
    ///
    /// # Errors
    /// What recvfrom(2) says. `TimedOut`, after [`UdpSocket::set_read_timeout`]. EBADF after
    /// [`UdpSocket::close`]. An error for which [`is_cancelled`](crate::is_cancelled) is true.
    ///
    /// # Panics
    /// In a stackless future, when it would have to wait.
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io
            .run(Direction::Read, |socket| socket.recv_from(buf).map(Whole))
            .map(|received| received.0)
    }

    /// As [`UdpSocket::recv_from`], but leaves the datagram there.
    ///
    /// # Errors
    /// As there.
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io
            .run(Direction::Read, |socket| socket.peek_from(buf).map(Whole))
            .map(|received| received.0)
    }

    /// As [`UdpSocket::recv_from`], after [`UdpSocket::connect`].
    ///
    /// # Errors
    /// As there. ECONNREFUSED: an earlier datagram found nobody.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io
            .run(Direction::Read, |socket| socket.recv(buf).map(Whole))
            .map(|count| count.0)
    }

    /// As [`UdpSocket::recv`], but leaves the datagram there.
    ///
    /// # Errors
    /// As there.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io
            .run(Direction::Read, |socket| socket.peek(buf).map(Whole))
            .map(|count| count.0)
    }

    /// Sends a datagram to the first of the addresses, waiting while the system has no room for it.
    ///
    /// # Errors
    /// What sendto(2) says, such as EMSGSIZE. `TimedOut`, after [`UdpSocket::set_write_timeout`]. EBADF after
    /// [`UdpSocket::close`]. An error for which [`is_cancelled`](crate::is_cancelled) is true.
    ///
    /// # Panics
    /// In a stackless future, when it would have to wait.
    pub fn send_to(&self, buf: &[u8], addr: impl ToSocketAddrs) -> io::Result<usize> {
        let addr = addr.resolve()?[0];
        self.io
            .run(Direction::Write, |socket| socket.send_to(buf, addr).map(Whole))
            .map(|count| count.0)
    }

    /// As [`UdpSocket::send_to`], after [`UdpSocket::connect`].
    ///
    /// # Errors
    /// As there. ECONNREFUSED: an earlier datagram found nobody.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io
            .run(Direction::Write, |socket| socket.send(buf).map(Whole))
            .map(|count| count.0)
    }

    /// As [`UdpSocket::recv_from`], for a stackless future.
    ///
    /// # Errors
    /// As there, but for timeouts and cancellation.
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let received = self
            .io
            .poll_run(Direction::Read, cx, |socket| socket.recv_from(buf).map(Whole));
        received.map_ok(|received| received.0)
    }

    /// As [`UdpSocket::send_to`], for a stackless future.
    ///
    /// # Errors
    /// As there, but for timeouts and cancellation.
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        addr: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let sent = self.io.poll_run(Direction::Write, cx, |socket| {
            socket.send_to(buf, addr).map(Whole)
        });
        sent.map_ok(|count| count.0)
    }

    /// As [`UdpSocket::recv_from`], but never waits.
    ///
    /// # Errors
    /// As there; `WouldBlock` when there is none.
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io
            .try_run(Direction::Read, |socket| socket.recv_from(buf).map(Whole))
            .map(|received| received.0)
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
    /// EBADF after [`UdpSocket::close`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.socket().local_addr()
    }

    /// The address it is connected to.
    ///
    /// # Errors
    /// ENOTCONN; EBADF after [`UdpSocket::close`].
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.socket().peer_addr()
    }

    /// Allows sending to broadcast addresses.
    ///
    /// # Errors
    /// EBADF after [`UdpSocket::close`].
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.io.socket().set_broadcast(broadcast)
    }

    /// The time-to-live of datagrams sent.
    ///
    /// # Errors
    /// EBADF after [`UdpSocket::close`].
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.socket().ttl()
    }

    /// Sets the time-to-live of datagrams sent.
    ///
    /// # Errors
    /// EINVAL; EBADF after [`UdpSocket::close`].
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.io.socket().set_ttl(ttl)
    }

    /// Joins a multicast group on the interface with this address.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.io.socket().join_multicast_v4(group, interface)
    }

    /// Joins a multicast group on the interface with this index.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.socket().join_multicast_v6(group, interface)
    }

    /// The socket's pending error, which is then forgotten.
    ///
    /// # Errors
    /// EBADF after [`UdpSocket::close`].
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.socket().take_error()
    }

    /// Another handle to the same socket, to be closed by itself.
    ///
    /// # Errors
    /// EMFILE; EBADF after [`UdpSocket::close`].
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            io: Io::new(self.io.socket().try_clone()?),
        })
    }

    /// Takes over a socket of the standard library's.
    ///
    /// # Errors
    /// It cannot be set to non-blocking mode.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { io: Io::new(socket) })
    }

    /// A socket of the standard library's, in blocking mode.
    ///
    /// # Errors
    /// EBADF after [`UdpSocket::close`].
    pub fn into_std(self) -> io::Result<std::net::UdpSocket> {
        let socket = self.io.into_socket();
        socket.set_nonblocking(false)?;
        Ok(socket)
    }
}

super::macros::descriptor!(UdpSocket, std::net::UdpSocket);
