//! Addresses to connect or bind to.

use super::lookup;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// What names one or more socket addresses: an address, an IP address or host name with a port, or
/// `"host:port"`. As the standard library's trait, but names of hosts are looked up on another thread, while
/// the fiber is parked; numeric addresses need no look-up. (A name in a stackless future panics: the wait would stop the worker.)
///
/// Not to be implemented outside this crate.
///
/// ```
/// use roving_runtime::net::TcpListener;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let same = TcpListener::bind(("127.0.0.1", listener.local_addr()?.port()));
/// assert_eq!(same.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait ToSocketAddrs: Resolve {}

impl<T: Resolve + ?Sized> ToSocketAddrs for T {}

mod sealed {
    use std::io;
    use std::net::SocketAddr;

    pub trait Resolve {
        /// At least one address, or an error.
        fn resolve(&self) -> io::Result<Vec<SocketAddr>>;
    }
}

pub(super) use sealed::Resolve;

impl Resolve for SocketAddr {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![*self])
    }
}

impl Resolve for [SocketAddr] {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if self.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no address was given",
            ));
        }
        Ok(self.to_vec())
    }
}

impl Resolve for Vec<SocketAddr> {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        self.as_slice().resolve()
    }
}

impl<const N: usize> Resolve for [SocketAddr; N] {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        self.as_slice().resolve()
    }
}

impl Resolve for (&str, u16) {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = *self;
        match host.parse::<IpAddr>() {
            Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
            Err(_) => lookup::lookup(host, port),
        }
    }
}

impl Resolve for (String, u16) {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        (self.0.as_str(), self.1).resolve()
    }
}

impl Resolve for str {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(addr) = self.parse::<SocketAddr>() {
            return Ok(vec![addr]);
        }
        let parts = self
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match parts {
            Some((host, port)) => lookup::lookup(host, port),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{self:?} is no socket address: it must be \"host:port\""),
            )),
        }
    }
}

impl Resolve for String {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        self.as_str().resolve()
    }
}

impl<T: Resolve + ?Sized> Resolve for &T {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        (**self).resolve()
    }
}

macro_rules! resolve_as_addr {
    ($($from:ty),*) => {$(
        impl Resolve for $from {
            fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
                Ok(vec![SocketAddr::from(*self)])
            }
        }
    )*};
}

resolve_as_addr!(
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16)
);
