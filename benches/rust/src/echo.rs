//! TCP echo: the servers of the peers, and the one client that loads them all.

use crate::peers;
use crate::table::Peer;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// What a server reads at most at a time.
pub(crate) const BUFFER: usize = 1024;

/// Serves with `peer` until the process ends; tells `ready` the port.
///
/// # Errors
/// What the system had against it.
pub fn serve(peer: Peer, ready: impl FnOnce(u16)) -> io::Result<()> {
    match peer {
        Peer::Roving => peers::roving_echo_server(ready),
        Peer::Tokio => peers::tokio_echo_server(ready),
        Peer::May => peers::may_echo_server(ready),
        Peer::Threads => peers::threads_echo_server(ready),
    }
}

/// What the client asks for.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Where the server is.
    pub server: SocketAddr,
    /// How many connections, each with one message on its way at a time.
    pub connections: usize,
    /// How long a message is.
    pub size: usize,
    /// How long it goes on before it counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub duration: Duration,
}

/// What it got.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// Messages that came back.
    pub messages: u64,
    /// In that time.
    pub elapsed: Duration,
    /// Nanoseconds from a message's departure to its return, at the median and the 99th percentile.
    pub latency: [u64; 2],
}

struct Connection {
    stream: TcpStream,
    sent: Instant,
    got: usize,
}

/// Loads a server: one thread, one epoll, no runtime, so that every peer meets the same client.
///
/// # Errors
/// What the system or the server had against it.
pub fn load(load: &Load) -> io::Result<Traffic> {
    // SAFETY: takes no pointers.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if epoll < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else knows it.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    let message = vec![b'x'; load.size];
    let mut connections = Vec::with_capacity(load.connections);
    for index in 0..load.connections {
        let mut stream = TcpStream::connect_timeout(&load.server, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: index as u64,
        };
        // SAFETY: both descriptors are open, and the event is ours.
        let added = unsafe {
            libc::epoll_ctl(
                epoll.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                stream.as_raw_fd(),
                &raw mut event,
            )
        };
        if added < 0 {
            return Err(io::Error::last_os_error());
        }
        stream.write_all(&message)?;
        connections.push(Connection {
            stream,
            sent: Instant::now(),
            got: 0,
        });
    }
    let begin = Instant::now() + load.warm_up;
    let end = begin + load.duration;
    let mut latencies = Vec::new();
    let mut buffer = vec![0; load.size];
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; load.connections];
    loop {
        let now = Instant::now();
        if now >= end {
            latencies.sort_unstable();
            let at = |part: usize| latencies.get(latencies.len() * part / 100).copied().unwrap_or(0);
            return Ok(Traffic {
                messages: latencies.len() as u64,
                elapsed: now - begin,
                latency: [at(50), at(99)],
            });
        }
        for index in wait(&epoll, &mut events)? {
            let connection = &mut connections[index];
            let len = connection.stream.read(&mut buffer[connection.got..])?;
            if len == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up"));
            }
            connection.got += len;
            if connection.got < load.size {
                continue;
            }
            let now = Instant::now();
            if now >= begin {
                latencies.push((now - connection.sent).as_nanos() as u64);
            }
            connection.got = 0;
            connection.sent = now;
            connection.stream.write_all(&message)?;
        }
    }
}

/// The connections with something to read, within a tenth of a second.
fn wait<'a>(
    epoll: &OwnedFd,
    events: &'a mut [libc::epoll_event],
) -> io::Result<impl Iterator<Item = usize> + 'a> {
    // SAFETY: the descriptor is open, and the events are as many as we say.
    let count = unsafe {
        libc::epoll_wait(
            epoll.as_raw_fd(),
            events.as_mut_ptr(),
            events.len() as libc::c_int,
            100,
        )
    };
    if count < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(events[..count as usize].iter().map(|event| event.u64 as usize))
}
