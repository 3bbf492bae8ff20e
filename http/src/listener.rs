//! What a server listens on, and where a connection comes from.

use crate::tls::TlsInfo;
use hyper::rt::{Read, Write};
use roving_runtime::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A socket that accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Where a connection came from and where it arrived, as text.
#[derive(Debug, Clone, Default)]
pub struct Endpoint {
    /// The client's address; empty for a Unix socket.
    pub remote_host: String,
    /// The client's port; empty for a Unix socket.
    pub remote_port: String,
    /// The address that was connected to, or the path of the Unix socket.
    pub local_host: String,
    /// The port that was connected to; empty for a Unix socket.
    pub local_port: String,
    /// What TLS has agreed on; `None` without TLS.
    pub tls: Option<Arc<TlsInfo>>,
}

impl Endpoint {
    fn tcp(remote: SocketAddr, local: &(String, String)) -> Self {
        Self {
            remote_host: remote.ip().to_canonical().to_string(),
            remote_port: remote.port().to_string(),
            local_host: local.0.clone(),
            local_port: local.1.clone(),
            tls: None,
        }
    }
}

/// A stream of either kind.
pub(crate) trait Stream: Read + Write + Unpin + Send + 'static {}

impl<S: Read + Write + Unpin + Send + 'static> Stream for S {}

/// A connection that was accepted.
pub(crate) enum Accepted {
    Tcp(TcpStream, Endpoint),
    Unix(UnixStream, Endpoint),
}

impl Listener {
    /// Its address as text: host and port, or a path and nothing.
    pub fn address(&self) -> (String, String) {
        match self {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(addr) => (addr.ip().to_string(), addr.port().to_string()),
                Err(_) => Default::default(),
            },
            Listener::Unix(listener) => {
                let path = listener.local_addr().ok();
                let path = path.and_then(|addr| addr.as_pathname().map(PathBuf::from));
                (
                    path.unwrap_or_default().to_string_lossy().into_owned(),
                    String::new(),
                )
            }
        }
    }

    pub(crate) fn poll_accept(
        &self,
        context: &mut Context<'_>,
        local: &(String, String),
    ) -> Poll<io::Result<Accepted>> {
        match self {
            Listener::Tcp(listener) => listener.poll_accept(context).map_ok(|(stream, remote)| {
                // What is written goes at once. On a connection that is gone already this fails, as the first read will.
                let _ = stream.set_nodelay(true);
                Accepted::Tcp(stream, Endpoint::tcp(remote, local))
            }),
            Listener::Unix(listener) => listener.poll_accept(context).map_ok(|(stream, _)| {
                let endpoint = Endpoint {
                    local_host: local.0.clone(),
                    ..Endpoint::default()
                };
                Accepted::Unix(stream, endpoint)
            }),
        }
    }

    /// Whether it accepts no more.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Listener::Tcp(listener) => listener.local_addr().is_err(),
            Listener::Unix(listener) => listener.local_addr().is_err(),
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Listener::Tcp(listener) => listener.close(),
            Listener::Unix(listener) => listener.close(),
        }
    }
}
