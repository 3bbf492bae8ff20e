//! Names of hosts. getaddrinfo(3) blocks, and may need more stack than a fiber has.

use crate::fiber::parker::{Parker, Unparker, Wake};
use crate::fiber::{Cancelled, WaitReason};
use crate::loom::sync::{Arc, Mutex, OnceLock};
use crate::loom::thread;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// Runs a call that blocks on a thread that may.
pub(crate) type Offload = fn(Box<dyn FnOnce() + Send>) -> io::Result<()>;

static OFFLOAD: OnceLock<Offload> = OnceLock::new();

/// THE SEAM FOR THE BLOCKING POOL (room L8, which this room cannot name): until the pool is set here, every
/// look-up gets a thread of its own.
#[allow(dead_code, reason = "the blocking pool sets it")]
pub(crate) fn set_offload(offload: Offload) {
    let _ = OFFLOAD.set(offload);
}

fn own_thread(call: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    thread::Builder::new()
        .name("roving-lookup".to_owned())
        .spawn(call)
        .map(|_| ())
}

struct Answer {
    addrs: Option<io::Result<Vec<SocketAddr>>>,
    /// Set while a fiber waits: it leaves under the lock, so the unparker is never stale.
    waiter: Option<Unparker>,
}

/// The addresses of a host.
///
/// # Errors
/// The host is unknown, the name service failed, no thread could be made, or the calling fiber was cancelled:
/// the look-up then goes on by itself, and nobody takes its answer.
pub(super) fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let parker = Parker::current();
    if matches!(parker, Parker::Thread(_)) {
        return ask(host, port);
    }
    let answer = Arc::new(Mutex::new(Answer {
        addrs: None,
        waiter: None,
    }));
    let (theirs, host) = (answer.clone(), host.to_owned());
    let call = Box::new(move || {
        let addrs = ask(&host, port);
        let wake = {
            let mut answer = theirs.lock();
            answer.addrs = Some(addrs);
            answer.waiter.take().map_or(Wake::Nothing, Unparker::begin)
        };
        wake.finish();
    });
    OFFLOAD.get().copied().unwrap_or(own_thread)(call)?;
    wait(&answer, &parker)
}

fn wait(answer: &Mutex<Answer>, parker: &Parker) -> io::Result<Vec<SocketAddr>> {
    loop {
        {
            let mut answer = answer.lock();
            if let Some(addrs) = answer.addrs.take() {
                return addrs;
            }
            if parker.is_cancelled() {
                answer.waiter = None;
                return Err(io::Error::other(Cancelled));
            }
            answer.waiter = Some(parker.unparker());
        }
        let _ = parker.park(None, WaitReason::Blocking);
    }
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
