//! Connections to the storm's echo servers, and the books about them.

use crate::client::{Client, Stopped};
use crate::common::Rng;
use crate::servers::{Addresses, Listeners, Served};
use crate::storm::{Count, add, short, total};
use roving_runtime::net::{TcpStream, UnixStream};
use roving_runtime::sync::Semaphore;
use roving_runtime::{checkpoint, is_cancelled};
use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Connections at once: fewer than a listener's queue has room for.
const PLACES: usize = 100;

pub(crate) struct Sockets {
    pub(crate) seed: u64,
    pub(crate) served: Served,
    listeners: Mutex<Option<Listeners>>,
    addresses: Addresses,
    pub(crate) places: Semaphore,
    connected: Count,
    /// Attempts that were given up: the server may have seen a connection all the same.
    unsure: Count,
    /// Connections that ended though the client had more to say or to hear.
    pub(crate) cut_short: Count,
    pub(crate) sent: Count,
    pub(crate) received: Count,
    pub(crate) closed_under_waiters: Count,
    pub(crate) cancelled_reads: Count,
}

/// A connection of either kind.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
        }
    };
}

impl Stream {
    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.read(buf))
    }

    /// Writes all of it; `sent` says how much of it was, also after an error.
    pub(crate) fn send_all(&self, data: &[u8], sent: &mut u64) -> io::Result<()> {
        let mut rest = data;
        while !rest.is_empty() {
            let count = either!(self, stream => stream.write(rest))?;
            *sent += count as u64;
            rest = &rest[count..];
        }
        Ok(())
    }

    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        either!(self, stream => stream.set_read_timeout(timeout))
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        either!(self, stream => stream.shutdown(how))
    }

    pub(crate) fn close(&self) {
        either!(self, stream => stream.close());
    }
}

impl Sockets {
    pub(crate) fn new(seed: u64) -> Self {
        let (listeners, addresses) = Listeners::new(seed);
        Self {
            seed,
            served: Served::default(),
            listeners: Mutex::new(Some(listeners)),
            addresses,
            places: Semaphore::new(PLACES),
            connected: Count::default(),
            unsure: Count::default(),
            cut_short: Count::default(),
            sent: Count::default(),
            received: Count::default(),
            closed_under_waiters: Count::default(),
            cancelled_reads: Count::default(),
        }
    }

    pub(crate) fn take_listeners(&self) -> Listeners {
        self.listeners.lock().unwrap().take().expect("served once")
    }

    /// So many connections the servers must have seen.
    pub(crate) fn certain(&self) -> u64 {
        total(&self.connected)
    }

    fn connect(&self, rng: &mut Rng) -> Option<Stream> {
        let stream = match rng.below(5) {
            0 | 1 => TcpStream::connect(self.addresses.tcp).map(Stream::Tcp),
            2 => TcpStream::connect_timeout(self.addresses.tcp, 4 * short(rng)).map(Stream::Tcp),
            _ => UnixStream::connect_addr(&self.addresses.unix).map(Stream::Unix),
        };
        match stream {
            Ok(stream) => {
                add(&self.connected, 1);
                Some(stream)
            }
            // A machine has some thousands of ports to connect from, and each rests for a while after use.
            Err(error)
                if is_cancelled(&error)
                    || matches!(
                        error.kind(),
                        io::ErrorKind::TimedOut | io::ErrorKind::AddrNotAvailable
                    ) =>
            {
                add(&self.unsure, 1);
                None
            }
            Err(error) => panic!("cannot connect: {error}"),
        }
    }

    pub(crate) fn client(&self, rng: &mut Rng) -> Option<Client<'_>> {
        Some(Client {
            stream: Arc::new(self.connect(rng)?),
            books: self,
            key: rng.next(),
            sent: 0,
            received: 0,
        })
    }

    pub(crate) fn note(&self, outcome: Result<(), Stopped>) {
        match outcome {
            Ok(()) => {}
            Err(Stopped::CutShort) => add(&self.cut_short, 1),
            Err(Stopped::Cancelled) => assert!(checkpoint().is_err(), "nobody cancelled this one"),
            Err(Stopped::Closed) => panic!("closed by nobody"),
        }
    }

    pub(crate) fn balance(&self) {
        assert_eq!(self.places.available_permits(), PLACES);
        let [connected, unsure, cut_short, sent, received] = [
            &self.connected,
            &self.unsure,
            &self.cut_short,
            &self.sent,
            &self.received,
        ]
        .map(total);
        let served = &self.served;
        let [accepted, gave_up, read, written] =
            [&served.accepted, &served.gave_up, &served.read, &served.written].map(total);
        assert!(
            (connected..=connected + unsure).contains(&accepted),
            "{accepted} accepted of {connected} and {unsure}"
        );
        assert!(
            cut_short <= gave_up,
            "{cut_short} cut short by {gave_up} handlers"
        );
        assert!(
            received <= written && written <= read && read <= sent,
            "sent {sent}, read {read}, written {written}, received {received}"
        );
        eprintln!(
            "storm: {accepted} connections ({cut_short} cut short, {unsure} given up), {received} bytes came back, \
             {} closed under waiters, {} reads cancelled",
            total(&self.closed_under_waiters),
            total(&self.cancelled_reads)
        );
    }
}
