//! The echo servers of the storm: TCP and Unix, a fiber for each connection.

use crate::common::Rng;
use crate::connections::Stream;
use crate::storm::{Count, Storm, add, pass_time, total};
use roving_runtime::net::{AcceptBackoff, TcpListener, UnixListener};
use roving_runtime::{JoinHandle, current_fiber, is_cancelled, spawn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Where the storm's servers listen.
pub(crate) struct Addresses {
    pub(crate) tcp: SocketAddr,
    pub(crate) unix: std::os::unix::net::SocketAddr,
}

/// Listeners that are not being served yet.
pub(crate) struct Listeners {
    tcp: Arc<TcpListener>,
    unix: Arc<UnixListener>,
}

impl Listeners {
    pub(crate) fn new(seed: u64) -> (Self, Addresses) {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let name = format!("roving-storm-{}-{seed:x}", std::process::id());
        let unix = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("a short name");
        let addresses = Addresses {
            tcp: tcp.local_addr().expect("an address"),
            unix,
        };
        let listeners = Self {
            tcp: Arc::new(tcp),
            unix: Arc::new(UnixListener::bind_addr(&addresses.unix).expect("a fresh name")),
        };
        (listeners, addresses)
    }
}

/// What the servers have done.
#[derive(Default)]
pub(crate) struct Served {
    pub(crate) accepted: Count,
    /// Handlers that ended before their clients did.
    pub(crate) gave_up: Count,
    pub(crate) read: Count,
    pub(crate) written: Count,
}

/// Listeners with the fibers that serve them.
pub(crate) struct Servers {
    listeners: Listeners,
    loops: [JoinHandle<()>; 2],
}

/// Notes that a handler ended early, also when it never started.
struct Handler {
    storm: Arc<Storm>,
    stream: Stream,
    finished: bool,
}

impl Drop for Handler {
    fn drop(&mut self) {
        if !self.finished {
            add(&self.storm.sockets.served.gave_up, 1);
        }
    }
}

impl Storm {
    pub(crate) fn serve(self: &Arc<Self>) -> Servers {
        let listeners = self.sockets.take_listeners();
        let (tcp, unix) = (listeners.tcp.clone(), listeners.unix.clone());
        let loops = [
            self.accept_loop(move || tcp.accept().map(|(stream, _)| Stream::Tcp(stream))),
            self.accept_loop(move || unix.accept().map(|(stream, _)| Stream::Unix(stream))),
        ];
        Servers { listeners, loops }
    }

    fn accept_loop(
        self: &Arc<Self>,
        accept: impl Fn() -> io::Result<Stream> + Send + 'static,
    ) -> JoinHandle<()> {
        let storm = self.clone();
        self.handle.spawn(self.counted(move || {
            let mut rng = Rng(storm.sockets.seed);
            let mut backoff = AcceptBackoff::new();
            let mut handlers: Vec<JoinHandle<()>> = Vec::new();
            loop {
                match accept() {
                    Ok(stream) => {
                        backoff.accepted();
                        add(&storm.sockets.served.accepted, 1);
                        handlers.push(storm.handle(stream, rng.next()));
                    }
                    Err(error) if error.raw_os_error() == Some(libc::EBADF) => break,
                    Err(error) => backoff.failed(error).expect("it passes"),
                }
                if rng.below(64) == 0 {
                    // Most likely before it starts.
                    handlers.last().iter().for_each(|handler| handler.cancel());
                }
                if handlers.len() > 200 {
                    let (done, alive) = handlers.into_iter().partition(JoinHandle::is_done);
                    handlers = alive;
                    for handler in Vec::from_iter::<Vec<_>>(done) {
                        storm.join(handler);
                    }
                }
            }
            for handler in handlers {
                storm.join(handler);
            }
        }))
    }

    fn handle(self: &Arc<Self>, stream: Stream, seed: u64) -> JoinHandle<()> {
        let handler = Handler {
            storm: self.clone(),
            stream,
            finished: false,
        };
        spawn(self.counted(move || {
            let (mut handler, mut rng) = (handler, Rng(seed));
            let me = current_fiber().expect("in a fiber");
            handler.storm.make_known(me, &mut rng);
            handler.finished = handler.echo(&mut rng);
        }))
    }

    /// All clients have ended: waits for their handlers, and stops listening.
    pub(crate) fn end_serving(&self, servers: Servers) {
        let books = &self.sockets;
        let end = Instant::now() + Duration::from_secs(20);
        while total(&books.served.accepted) < books.certain() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        servers.listeners.tcp.close();
        servers.listeners.unix.close();
        for server in servers.loops {
            self.ledger.settle(server.join());
        }
    }
}

impl Handler {
    /// Sends everything back until the other side has no more to say, or is gone. False: it gave up before.
    fn echo(&self, rng: &mut Rng) -> bool {
        let books = &self.storm.sockets.served;
        let mut buf = [0; 4096];
        if rng.below(4) == 0 {
            let timeout = Duration::from_micros(1 + rng.below(2000));
            self.stream
                .set_read_timeout(Some(timeout))
                .expect("it is not zero");
        }
        loop {
            let size = 1 + rng.below(buf.len() as u64) as usize;
            match self.stream.read(&mut buf[..size]) {
                Ok(0) => return true,
                Ok(count) => {
                    add(&books.read, count as u64);
                    if rng.below(16) == 0 {
                        pass_time(rng);
                    }
                    let mut written = 0;
                    let sent = self.stream.send_all(&buf[..count], &mut written);
                    books.written.fetch_add(written, Ordering::Relaxed);
                    match sent {
                        Ok(()) => {}
                        Err(error) if is_cancelled(&error) => return false,
                        Err(error) if is_gone(&error) => return true,
                        Err(error) => panic!("a server writes: {error}"),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                Err(error) if is_cancelled(&error) => return false,
                Err(error) if is_gone(&error) => return true,
                Err(error) => panic!("a server reads: {error}"),
            }
            if rng.below(512) == 0 {
                return false;
            }
        }
    }
}

/// The other side ended the connection.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted
    )
}
