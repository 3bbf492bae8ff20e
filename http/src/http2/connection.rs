//! A connection: hyper's, with our times and the way it is stopped around it.

use super::prefixed::Prefixed;
use super::service::Service2;
use super::stream::Spawner;
use super::streams::Streams;
use crate::link::Link;
use crate::listener::Endpoint;
use crate::registry::{Course, Seat};
use crate::server::{self, Shared};
use crate::service::Requests;
use crate::strict::Strict;
use bytes::Bytes;
use hyper::rt::{Read, Write};
use hyper::server::conn::http2;
use roving_runtime::Sleep;
use roving_runtime::hyper::HyperTimer;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Of request bodies that have come and that nobody has read.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Of a response that h2 has not sent.
const SEND_BUFFER: usize = 64 << 10;
/// Whether a client is still there is asked so often, and waited for so long.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// For how long, after GOAWAY, a client without a stream may take nothing of what is still to be sent.
const GOODBYE: Duration = Duration::from_secs(2);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// One of the two was done, or the client is gone.
    Closed,
    /// The server is in a hurry.
    Cut,
    /// The client opens streams to reset them.
    Abused,
}

/// Serves a connection to its end. `prefix`: what was read of it before, the preface to begin with.
pub(crate) async fn serve<I>(
    shared: Arc<Shared>,
    stream: Strict<I>,
    prefix: Bytes,
    endpoint: Arc<Endpoint>,
    link: Arc<Link>,
    seat: &Seat,
) -> End
where
    I: Read + Write + Unpin + Send + 'static,
{
    let streams = Arc::new(Streams::default());
    let config = &shared.config;
    let mut builder = http2::Builder::new(Spawner {
        streams: streams.clone(),
        handle: shared.handle.clone(),
        patience: config.write_timeout,
    });
    builder
        .timer(HyperTimer::new(shared.handle.clone()))
        .auto_date_header(config.date)
        .max_concurrent_streams(config.http2_streams)
        .max_header_list_size(u32::try_from(config.max_head).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    let service = Service2 {
        requests: Requests(Arc::new(server::Context {
            shared: shared.clone(),
            endpoint,
            // Of a connection with one request at a time; streams have their own.
            link: Arc::new(Link::new(shared.meter.clone())),
        })),
        streams: streams.clone(),
    };
    let mut http = pin!(builder.serve_connection(Prefixed::new(prefix, stream), service));
    let mut watch = Watch {
        shared: shared.clone(),
        streams: streams.clone(),
        link,
        stamp: None,
        deadline: None,
        timer: None,
        closes_by: None,
        sent: 0,
    };
    let mut entered = false;
    poll_fn(|context| {
        if !entered {
            entered = true;
            seat.enter(context.waker());
        }
        streams.enter(context.waker());
        loop {
            if http.as_mut().poll(context).is_ready() {
                return Poll::Ready(End::Closed);
            }
            if streams.is_abused() {
                return Poll::Ready(End::Abused);
            }
            match shared.registry.course() {
                Course::Cut => return Poll::Ready(End::Cut),
                // GOAWAY comes in two parts: what the client has sent before it knew is answered. Not before its first request,
                // which may be on its way: amid the handshake hyper would only close.
                Course::HandedOver if !streams.had_any() => {}
                Course::HandedOver | Course::Draining if watch.closes_by.is_none() => {
                    watch.close();
                    http.as_mut().graceful_shutdown();
                    continue;
                }
                Course::HandedOver | Course::Draining | Course::Serving => {}
            }
            match ready!(watch.poll(context)) {
                Due::GoAway => http.as_mut().graceful_shutdown(),
                Due::End => return Poll::Ready(End::Closed),
            }
        }
    })
    .await
}

enum Due {
    GoAway,
    End,
}

/// The time of a connection on which no stream is open.
struct Watch {
    shared: Arc<Shared>,
    streams: Arc<Streams>,
    link: Arc<Link>,
    stamp: Option<u32>,
    /// `None` while a stream is open.
    deadline: Option<Instant>,
    timer: Option<Sleep>,
    /// Set once GOAWAY is on its way, or gone: answers to pings are no reason to stay for ever.
    closes_by: Option<Instant>,
    /// What had been written when the deadline was set.
    sent: u32,
}

impl Watch {
    fn close(&mut self) {
        self.closes_by = Some(self.shared.handle.now() + self.shared.config.write_timeout);
        self.stamp = None;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Due> {
        let (open, stamp) = self.streams.count();
        if self.stamp != Some(stamp) {
            self.stamp = Some(stamp);
            self.deadline = (open == 0).then(|| self.shared.handle.now() + self.time());
            self.sent = self.link.writes();
        }
        loop {
            let Some(deadline) = self.deadline else {
                return Poll::Pending;
            };
            let timer = match &mut self.timer {
                Some(timer) if timer.deadline() <= deadline => timer,
                timer => timer.insert(self.shared.handle.sleep_until(deadline)),
            };
            ready!(Pin::new(timer).poll(context));
            self.timer = None;
            let now = self.shared.handle.now();
            if now < deadline {
                continue;
            }
            let Some(last) = self.closes_by else {
                self.close();
                return Poll::Ready(Due::GoAway);
            };
            // The last response may be on its way still.
            let sent = self.link.writes();
            if sent == self.sent || now >= last {
                return Poll::Ready(Due::End);
            }
            self.sent = sent;
            self.deadline = Some(now + GOODBYE);
        }
    }

    fn time(&self) -> Duration {
        let config = &self.shared.config;
        match (self.closes_by.is_some(), self.streams.had_any()) {
            (true, _) => GOODBYE,
            (false, true) => config.keep_alive,
            (false, false) => config.header_timeout,
        }
    }
}
