//! Names of hosts. getaddrinfo(3) blocks, and may need more stack than a fiber has.

use crate::fiber::parker::Parker;
use crate::loom::sync::{Arc, Mutex, OnceLock};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// Makes a call that blocks where it may, while the calling fiber is parked.
pub(crate) type MakeBlocking = fn(Box<dyn FnOnce() + Send>) -> io::Result<()>;

static MAKE_BLOCKING: OnceLock<MakeBlocking> = OnceLock::new();

/// Gives this room the blocking pool, which is of a higher one. The first stays.
pub(crate) fn set_blocking(make: MakeBlocking) {
    let _ = MAKE_BLOCKING.set(make);
}

/// The addresses of a host.
///
/// # Errors
/// The host is unknown, the name service failed, no thread could be had, or the calling fiber was cancelled:
/// the look-up then goes on by itself, and nobody takes its answer.
///
/// # Panics
/// In a stackless future.
pub(super) fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let make = match Parker::current() {
        Parker::Fiber(_) => MAKE_BLOCKING.get(),
        Parker::Thread(_) => None,
    };
    let Some(make) = make else { return ask(host, port) };
    let answer = Arc::new(Mutex::new(None));
    let (theirs, host) = (answer.clone(), host.to_owned());
    make(Box::new(move || {
        let addrs = ask(&host, port);
        *theirs.lock() = Some(addrs);
    }))?;
    let addrs = answer.lock().take();
    addrs.unwrap_or_else(|| Err(io::Error::other("the look-up of a name was given up")))
}

fn ask(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addrs: Vec<_> = (host, port).to_socket_addrs()?.collect();
    if addrs.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("the host {host:?} has no address"),
        ));
    }
    Ok(addrs)
}
