//! A server: its listeners, its limits, and how it stops.

use crate::acceptor;
use crate::config::Config;
use crate::exchange::Application;
use crate::limit::Limit;
use crate::link::Link;
use crate::listener::{Endpoint, Listener};
use crate::meter::{Meter, Sums};
use crate::registry::{Course, Registry};
use crate::strict::{self, Fault, Linger};
use crate::wait::wait;
use roving_runtime::hyper::HyperTimer;
use roving_runtime::{Cancelled, Handle, Metrics};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// For how long, and how many bytes, a client may go on sending that was answered before all of it was read.
const LINGER: Linger = Linger {
    time: Duration::from_secs(2),
    bytes: 4 << 20,
};

/// What all connections of a server share.
pub(crate) struct Shared {
    pub(crate) handle: Handle,
    pub(crate) config: Config,
    /// How the bytes of requests are checked.
    pub(crate) strict: Arc<strict::Config>,
    /// The same, where HTTP/2 has been agreed on.
    pub(crate) strict_http2: Arc<strict::Config>,
    pub(crate) application: Box<dyn Application>,
    pub(crate) limit: Arc<Limit>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) counts: Counts,
    pub(crate) meter: Option<Arc<Meter>>,
}

/// What all requests of a connection share. They count references to this, and to nothing that other connections have:
/// counts that all workers change would go from core to core.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) link: Arc<Link>,
}

/// What is counted; only what does not happen at every request.
#[derive(Debug)]
pub(crate) struct Counts {
    refused: AtomicU64,
    /// By fault.
    malformed: [AtomicU64; Fault::ALL.len()],
    /// Connections that were closed for what was done on them with HTTP/2.
    abused: AtomicU64,
    tls_failed: AtomicU64,
    accept_failed: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            refused: AtomicU64::new(0),
            abused: AtomicU64::new(0),
            tls_failed: AtomicU64::new(0),
            malformed: [const { AtomicU64::new(0) }; Fault::ALL.len()],
            accept_failed: AtomicU64::new(0),
        }
    }
}

impl Counts {
    pub(crate) fn malformed(&self, fault: Fault) {
        self.malformed[fault as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn abused(&self) {
        self.abused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn tls_failed(&self) {
        self.tls_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn accept_failed(&self) {
        self.accept_failed.fetch_add(1, Ordering::Relaxed);
    }
}

fn strict(handle: &Handle, config: &Config, http2: bool) -> strict::Config {
    strict::Config {
        limits: config.limits(),
        linger: LINGER,
        timer: Some(Arc::new(HyperTimer::new(handle.clone()))),
        http2,
    }
}

/// How a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Connections that are open.
    pub connections: usize,
    /// Requests that are with the application.
    pub in_flight: usize,
    /// Requests that wait for their turn.
    pub queued: usize,
    /// Requests that were refused with 503, so far.
    pub refused: u64,
    /// Requests that were malformed, or over a limit, so far.
    pub malformed: u64,
    /// TLS handshakes that failed, so far.
    pub tls_failed: u64,
    /// Accepts that failed, so far.
    pub accept_failed: u64,
}

/// A server that runs. Dropping it changes nothing: it serves until it is [stopped](Server::stop), or the runtime ends.
///
/// ```
/// use bytes::Bytes;
/// use roving_http::{Config, Exchange, Head, Listener, Server};
/// use roving_runtime::{Runtime, net::TcpListener};
/// use std::io::{Read, Write};
///
/// let runtime = Runtime::builder().workers(2).build()?;
/// let hello = |mut exchange: Exchange| {
///     roving_runtime::spawn(move || exchange.responder.send(Head::default(), Bytes::from_static(b"hello")));
/// };
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let server = Server::start(runtime.handle(), vec![Listener::Tcp(listener)], Config::default(), hello);
///
/// let mut client = std::net::TcpStream::connect(address)?;
/// client.write_all(b"GET / HTTP/1.1\r\nhost: example\r\nconnection: close\r\n\r\n")?;
/// let mut text = String::new();
/// client.read_to_string(&mut text)?;
/// assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nhello"));
/// server.stop();
/// assert!(server.wait(None)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    shared: Arc<Shared>,
    listeners: Vec<Arc<Listener>>,
}

impl Server {
    /// Begins to accept connections, whose requests `application` answers.
    pub fn start(
        handle: &Handle,
        listeners: Vec<Listener>,
        config: Config,
        application: impl Application,
    ) -> Self {
        let shared = Arc::new(Shared {
            handle: handle.clone(),
            limit: Arc::new(Limit::new(config.in_flight, config.queue)),
            // With TLS it is agreed on before.
            strict: Arc::new(strict(handle, &config, config.http2 && config.tls.is_none())),
            strict_http2: Arc::new(strict(handle, &config, true)),
            meter: config.meter.then(|| Arc::new(Meter::new())),
            config,
            application: Box::new(application),
            registry: Arc::new(Registry::new()),
            counts: Counts::default(),
        });
        let listeners: Vec<_> = listeners.into_iter().map(Arc::new).collect();
        for listener in &listeners {
            let seat = shared.registry.sit();
            handle
                .spawn_future(acceptor::accept(shared.clone(), listener.clone(), seat))
                .detach();
        }
        Self { shared, listeners }
    }

    /// Where it listens: host and port, or a path and nothing.
    pub fn addresses(&self) -> Vec<(String, String)> {
        self.listeners.iter().map(|listener| listener.address()).collect()
    }

    /// Accepts no more; finishes the requests that are there and closes connections after them.
    pub fn stop(&self) {
        self.shared.registry.advance(Course::Draining);
    }

    /// Leaves the sockets it listens on to another process, which accepts on them already: who has connected and was not accepted is
    /// that one's. Connections that are here are told, in the response to their next request, to end after it, and otherwise end
    /// when they have waited for that too long; so no client finds its request unanswered. [`Server::stop`] ends them sooner.
    pub fn hand_over(&self) {
        self.shared.registry.advance(Course::HandedOver);
    }

    /// Breaks off the connections that are left. The application's fibers are not told; see
    /// [`Responder::on_gone`](crate::Responder::on_gone).
    pub fn cut(&self) {
        self.shared.registry.advance(Course::Cut);
    }

    /// Waits until there is neither a connection nor a request, until `until` at most; whether it came to that. Parks a
    /// fiber, blocks a plain thread.
    ///
    /// # Errors
    /// The calling fiber was cancelled.
    pub fn wait(&self, until: Option<Instant>) -> Result<bool, Cancelled> {
        let idle = wait(&self.shared.handle, until, |context| {
            match self.shared.registry.poll_idle(context) {
                std::task::Poll::Ready(()) => self.shared.limit.poll_idle(context),
                std::task::Poll::Pending => std::task::Poll::Pending,
            }
        })?;
        Ok(idle.is_some())
    }

    /// The same server again.
    pub(crate) fn share(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            listeners: self.listeners.clone(),
        }
    }

    pub(crate) fn course(&self) -> Course {
        self.shared.registry.course()
    }

    /// How many requests were malformed in this way.
    pub(crate) fn malformed_as(&self, fault: Fault) -> u64 {
        self.shared.counts.malformed[fault as usize].load(Ordering::Relaxed)
    }

    /// How many requests may be with the application, and how many may wait for that.
    pub(crate) fn limits(&self) -> (usize, usize) {
        (self.shared.config.in_flight, self.shared.config.queue)
    }

    /// What was counted at every request, if it was.
    pub(crate) fn sums(&self) -> Option<Sums> {
        self.shared.meter.as_ref().map(|meter| meter.sums())
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.shared.handle.metrics()
    }

    /// How it does.
    pub fn statistics(&self) -> Statistics {
        let (in_flight, queued) = self.shared.limit.counts();
        let accepting = self.listeners.iter().filter(|listener| !listener.is_closed());
        let seats = self.shared.registry.count();
        Statistics {
            connections: seats.saturating_sub(accepting.count()),
            in_flight,
            queued,
            refused: self.shared.counts.refused.load(Ordering::Relaxed),
            malformed: Fault::ALL
                .iter()
                .map(|fault| self.malformed_as(*fault))
                .sum::<u64>()
                + self.shared.counts.abused.load(Ordering::Relaxed),
            tls_failed: self.shared.counts.tls_failed.load(Ordering::Relaxed),
            accept_failed: self.shared.counts.accept_failed.load(Ordering::Relaxed),
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses())
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}
