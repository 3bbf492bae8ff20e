//! The admin listener: `/healthz`, `/readyz` and `/metrics`, answered by one native thread.
//!
//! The thread runs no fiber, takes no lock that is held for longer than a few instructions and never blocks but in poll(2),
//! so whatever the application does it answers: that is what it is for. Its clients are bounded in number, size and time; of
//! too many the one goes whose time is up first. One descriptor is kept back, so that a probe is answered when there are no more.

mod client;
mod exposition;
mod families;
mod poll;
mod process;

pub use exposition::{Exposition, Kind};

use crate::registry::Course;
use crate::server::Server;
use client::{Answer, Asked, Client, Stream};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clients at once.
const CLIENTS: usize = 64;
/// While the system gives no descriptors, until the next try.
const PAUSE: Duration = Duration::from_millis(100);
const PLAIN: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A socket that the admin listener accepts from.
#[derive(Debug)]
pub enum AdminListener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl AdminListener {
    fn descriptor(&self) -> RawFd {
        match self {
            AdminListener::Tcp(listener) => listener.as_raw_fd(),
            AdminListener::Unix(listener) => listener.as_raw_fd(),
        }
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            AdminListener::Tcp(listener) => listener.set_nonblocking(true),
            AdminListener::Unix(listener) => listener.set_nonblocking(true),
        }
    }

    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            AdminListener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            AdminListener::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Box::new(stream))
            }
        }
    }

    /// Its address as text: host and port, or a path and nothing.
    fn address(&self) -> (String, String) {
        match self {
            AdminListener::Tcp(listener) => match listener.local_addr() {
                Ok(addr) => (addr.ip().to_string(), addr.port().to_string()),
                Err(_) => Default::default(),
            },
            AdminListener::Unix(listener) => {
                let path = listener.local_addr().ok();
                let path = path.as_ref().and_then(|addr| addr.as_pathname());
                let path = path.map_or_else(String::new, |path| path.to_string_lossy().into_owned());
                (path, String::new())
            }
        }
    }
}

/// What the embedder adds to the metrics. Called on the listener's thread, it must not block.
pub type More = Box<dyn Fn(&mut Exposition) + Send + Sync>;

struct Shared {
    /// `None` until the application is there.
    server: Mutex<Option<Server>>,
    more: More,
}

impl Shared {
    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn respond(&self, asked: &Asked<'_>) -> Answer {
        if !["GET", "HEAD"].contains(&asked.method) {
            return plain("405 Method Not Allowed", "GET and HEAD alone\n");
        }
        match asked.path {
            "/healthz" | "/livez" => plain("200 OK", "ok\n"),
            "/readyz" => self.ready(asked.query),
            "/metrics" => Answer {
                status: "200 OK",
                kind: METRICS,
                body: self.metrics(),
            },
            "/" => plain("200 OK", "/healthz\n/readyz\n/readyz?load\n/metrics\n"),
            _ => plain("404 Not Found", "there are /healthz, /readyz and /metrics\n"),
        }
    }

    fn ready(&self, query: &str) -> Answer {
        let not = |why: &str| plain("503 Service Unavailable", why);
        let server = self.server();
        let Some(server) = server.as_ref() else {
            return not("starting\n");
        };
        if server.course() != Course::Serving {
            return not("draining\n");
        }
        let statistics = server.statistics();
        let (in_flight, queue) = server.limits();
        let full = statistics.in_flight >= in_flight && statistics.queued >= queue;
        match (full, query == "load") {
            (true, true) => not("full\n"),
            // To take one that is full out would hand its load to the others, and them their own to the last.
            (true, false) => plain("200 OK", "ok, full\n"),
            (false, _) => plain("200 OK", "ok\n"),
        }
    }

    fn metrics(&self) -> String {
        let mut page = Exposition::default();
        {
            let server = self.server();
            if let Some(server) = server.as_ref() {
                families::add_server(&mut page, server);
                families::add_runtime(&mut page, &server.metrics());
            }
            let ready = server
                .as_ref()
                .is_some_and(|server| server.course() == Course::Serving);
            let help = "Whether the application is there and the server does not stop.";
            page.single("roving_ready", Kind::Gauge, help, u8::from(ready));
        }
        (self.more)(&mut page);
        process::add_to(&mut page);
        page.into_text()
    }
}

fn plain(status: &'static str, body: &str) -> Answer {
    Answer {
        status,
        kind: PLAIN,
        body: body.to_owned(),
    }
}

/// The admin listener of a server, which answers from the moment it is made.
pub struct Admin {
    shared: Arc<Shared>,
    addresses: Vec<(String, String)>,
    /// Written to, or closed, it ends the thread.
    wake: Mutex<Option<UnixStream>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Admin {
    /// Begins to answer, of `server`. Without one it is not ready, until there is one to [watch](Admin::watch).
    ///
    /// # Errors
    /// The system has no descriptors or threads left.
    pub fn start(listeners: Vec<AdminListener>, server: Option<&Server>, more: More) -> io::Result<Self> {
        for listener in &listeners {
            listener.set_nonblocking()?;
        }
        let addresses = listeners.iter().map(AdminListener::address).collect();
        let (wake, woken) = UnixStream::pair()?;
        let shared = Arc::new(Shared {
            server: Mutex::new(server.map(Server::share)),
            more,
        });
        let mut listening = Listening {
            shared: shared.clone(),
            listeners,
            woken,
            clients: Vec::new(),
            reserve: reserve(),
            pause: None,
        };
        let thread = std::thread::Builder::new()
            .name("roving-admin".to_owned())
            .spawn(move || listening.run())?;
        Ok(Self {
            shared,
            addresses,
            wake: Mutex::new(Some(wake)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Has it tell of this server.
    pub fn watch(&self, server: &Server) {
        *self.shared.server() = Some(server.share());
    }

    /// Where it listens: host and port, or a path and nothing.
    pub fn addresses(&self) -> Vec<(String, String)> {
        self.addresses.clone()
    }

    /// Answers no more, and waits for its thread. A second time it does nothing.
    pub fn stop(&self) {
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut wake) = wake {
            // To close it would not do: a child that was forked may have it, too. One byte always has room.
            let _ = wake.write(b"x");
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic has been shown by its hook.
            let _ = thread.join();
        }
        *self.shared.server() = None;
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// What the thread has.
struct Listening {
    shared: Arc<Shared>,
    listeners: Vec<AdminListener>,
    woken: UnixStream,
    clients: Vec<Client>,
    /// Given up to accept a client when there is no other descriptor.
    reserve: Option<File>,
    /// Until then nothing is accepted.
    pause: Option<Instant>,
}

impl Listening {
    fn run(&mut self) {
        let mut watched = Vec::new();
        loop {
            let now = Instant::now();
            self.clients.retain(|client| client.deadline > now);
            self.pause = self.pause.filter(|until| *until > now);
            watched.clear();
            watched.push((self.woken.as_raw_fd(), false));
            let accepts = self.pause.is_none();
            if accepts {
                watched.extend(
                    self.listeners
                        .iter()
                        .map(|listener| (listener.descriptor(), false)),
                );
            }
            let first = watched.len();
            watched.extend(
                self.clients
                    .iter()
                    .map(|client| (client.descriptor(), client.writes())),
            );
            let deadlines = self
                .clients
                .iter()
                .map(|client| client.deadline)
                .chain(self.pause);
            let ready = poll::poll(&watched, deadlines.min().map(|until| until - now));
            if ready[0] {
                return;
            }
            let now = Instant::now();
            let shared = self.shared.clone();
            let respond = |asked: &Asked<'_>| shared.respond(asked);
            let mut index = first;
            self.clients.retain_mut(|client| {
                index += 1;
                !ready[index - 1] || client.advance(now, &respond)
            });
            if self.reserve.is_none() {
                self.reserve = reserve();
            }
            if accepts {
                self.accept(&ready[1..first], now);
            }
        }
    }

    fn accept(&mut self, ready: &[bool], now: Instant) {
        let shared = self.shared.clone();
        for (listener, ready) in self.listeners.iter().zip(ready) {
            // As many as there may be, and no more in one go: whoever has been accepted is to be answered, too.
            for _ in 0..if *ready { CLIENTS } else { 0 } {
                let accepted = match listener.accept() {
                    Err(error) if is_short(&error) && self.reserve.take().is_some() => listener.accept(),
                    accepted => accepted,
                };
                match accepted {
                    Ok(stream) => {
                        if self.clients.len() >= CLIENTS
                            && let Some((index, _)) = self
                                .clients
                                .iter()
                                .enumerate()
                                .min_by_key(|(_, client)| client.deadline)
                        {
                            self.clients.swap_remove(index);
                        }
                        let mut client = Client::new(stream, now);
                        // Most have sent their request by now.
                        if client.advance(now, &|asked| shared.respond(asked)) {
                            self.clients.push(client);
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if is_short(&error) => {
                        self.pause = Some(now + PAUSE);
                        break;
                    }
                    // That client has gone already.
                    Err(_) => {}
                }
            }
        }
    }
}

/// Whether the system, or the process, has no descriptors or memory left.
fn is_short(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}
