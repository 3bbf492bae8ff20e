//! One connection: its TLS handshake, then HTTP/1.1 or HTTP/2. Here is HTTP/1.1: hyper's connection, with our times and the
//! way it is stopped around it.

use crate::guard::Guard;
use crate::half_open::HalfOpen;
use crate::http2;
use crate::link::{Link, Phase};
use crate::listener::{Endpoint, Stream};
use crate::registry::{Course, Seat};
use crate::server::{self, Shared};
use crate::service::Requests;
use crate::strict::{self, Strict};
use crate::tls::{self, Tls};
use bytes::Bytes;
use hyper::server::conn::http1;
use roving_runtime::Sleep;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// Serves a connection to its end.
pub(crate) async fn serve<S: Stream>(shared: Arc<Shared>, stream: S, endpoint: Endpoint, seat: Seat) {
    if let Some(meter) = &shared.meter {
        meter.connected();
    }
    let link = Arc::new(Link::new(shared.meter.clone()));
    let guard = Guard::new(
        stream,
        link.clone(),
        shared.handle.clone(),
        shared.config.write_timeout,
    );
    match shared.config.tls.clone() {
        None => {
            let stream = Strict::new(guard, shared.strict.clone());
            converse(shared, stream, Arc::new(endpoint), link, seat).await;
        }
        // In boxes: what is larger than a plain connection's future is not every connection's to carry.
        Some(tls) => Box::pin(secure(shared, tls, guard, endpoint, link, seat)).await,
    }
}

/// Shakes hands, and serves what the two have agreed on.
async fn secure<S: Stream>(
    shared: Arc<Shared>,
    tls: Arc<Tls>,
    stream: S,
    mut endpoint: Endpoint,
    link: Arc<Link>,
    seat: Seat,
) {
    let loaded = tls.loaded();
    let shaken = {
        let mut accept = pin!(tls::accept(stream, &loaded, &shared.handle));
        let mut limit = pin!(
            shared
                .handle
                .sleep_until(shared.handle.now() + shared.config.header_timeout)
        );
        let mut entered = false;
        poll_fn(|context| {
            if !std::mem::replace(&mut entered, true) {
                seat.enter(context.waker());
            }
            if let Poll::Ready(shaken) = accept.as_mut().poll(context) {
                return Poll::Ready(shaken);
            }
            if shared.registry.course() == Course::Cut {
                return Poll::Ready(Ok(None));
            }
            ready!(limit.as_mut().poll(context));
            Poll::Ready(Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
        })
        .await
    };
    let stream = match shaken {
        Ok(Some(stream)) => stream,
        // It never began.
        Ok(None) => return,
        Err(tls::Refusal { error, stream }) => {
            shared.counts.tls_failed();
            let why = format!("the TLS handshake failed: {error}");
            shared.application.refused(&endpoint, &why);
            if let Some(stream) = stream {
                let mut linger = pin!(tls::linger(stream, &shared.handle));
                poll_fn(|context| match shared.registry.course() {
                    Course::Cut => Poll::Ready(()),
                    _ => linger.as_mut().poll(context),
                })
                .await;
            }
            return;
        }
    };
    endpoint.tls = Some(Arc::new(stream.info()));
    let endpoint = Arc::new(endpoint);
    if stream.is_http2() {
        let stream = Strict::new(stream, shared.strict_http2.clone());
        multiplex(shared, stream, Bytes::new(), endpoint, link, seat).await;
    } else {
        let stream = Strict::new(stream, shared.strict.clone());
        converse(shared, stream, endpoint, link, seat).await;
    }
}

/// Serves HTTP/2.
async fn multiplex<I: Stream>(
    shared: Arc<Shared>,
    stream: Strict<I>,
    prefix: Bytes,
    endpoint: Arc<Endpoint>,
    link: Arc<Link>,
    seat: Seat,
) {
    let ended = http2::serve(shared.clone(), stream, prefix, endpoint.clone(), link, &seat).await;
    if ended == http2::End::Abused {
        shared.counts.abused();
        let why = "it opens HTTP/2 streams to reset them";
        shared.application.refused(&endpoint, &why);
    }
    drop(seat);
}

/// Serves HTTP/1.1, and HTTP/2 where that is what comes.
async fn converse<I: Stream>(
    shared: Arc<Shared>,
    stream: Strict<I>,
    endpoint: Arc<Endpoint>,
    link: Arc<Link>,
    seat: Seat,
) {
    let checked = stream.watch();
    link.set_checked(checked.clone());
    let requests = Requests(Arc::new(server::Context {
        shared: shared.clone(),
        endpoint: endpoint.clone(),
        link: link.clone(),
    }));
    let waits = shared.config.half_close.then(|| link.clone());
    let mut builder = http1::Builder::new();
    shared.strict.limits.configure(&mut builder);
    let http = builder
        .auto_date_header(shared.config.date)
        // Not `pipeline_flush`: with it hyper takes in a body without limit, whatever the client takes, and flushes no
        // response while bytes of the next request are there.
        .serve_connection(HalfOpen::new(stream, waits), requests);
    let mut connection = Connection {
        http,
        watch: Watch::new(shared.clone(), link.clone()),
        seat,
        entered: false,
        draining: false,
    };
    let ended = poll_fn(|context| connection.poll(context)).await;
    let Connection { http, seat, .. } = connection;
    let parts = http.into_parts();
    let mut stream = parts.io.into_inner();
    if ended == End::Failed && checked.phase() == strict::Phase::Http2 {
        // The preface of HTTP/2, which the checker passes whole: hyper leaves it where it is.
        Box::pin(multiplex(shared, stream, parts.read_buf, endpoint, link, seat)).await;
        return;
    }
    if ended == End::TooLate {
        stream.time_out();
    }
    if let Some(refused) = checked.refused() {
        shared.counts.malformed(refused.fault);
        shared.application.refused(&endpoint, &refused);
    }
    if ended != End::Cut {
        // Answers what was refused, and reads on for a while where the client may still be sending: closed at once it would
        // find a reset instead of the answer.
        let mut close = pin!(stream.close());
        poll_fn(|context| match shared.registry.course() {
            Course::Cut => Poll::Ready(()),
            // The client may be gone.
            _ => close.as_mut().poll(context).map(|_| ()),
        })
        .await;
    }
    // Only now: who waits for the connections' end may end the runtime.
    drop(seat);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The last response has been sent, or the client has closed, or was told off.
    Closed,
    /// The client is gone, or takes nothing.
    Failed,
    /// It let us wait for too long.
    TooLate,
    /// The server is in a hurry.
    Cut,
}

struct Connection<S: Stream> {
    http: http1::Connection<HalfOpen<S>, Requests>,
    watch: Watch,
    seat: Seat,
    entered: bool,
    draining: bool,
}

impl<S: Stream> Connection<S> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if !self.entered {
            self.entered = true;
            self.seat.enter(context.waker());
        }
        loop {
            // First: what the client has sent already is still answered.
            match self.http.poll_without_shutdown(context) {
                Poll::Ready(Ok(())) => return Poll::Ready(End::Closed),
                Poll::Ready(Err(_)) => return Poll::Ready(End::Failed),
                Poll::Pending => {}
            }
            match self.watch.shared.registry.course() {
                Course::Cut => return Poll::Ready(End::Cut),
                Course::Draining if !self.draining => {
                    self.draining = true;
                    Pin::new(&mut self.http).graceful_shutdown();
                }
                // Not told: hyper would close an idle one, perhaps with a request already on its way to us. See `Reply::finish`.
                Course::HandedOver | Course::Draining | Course::Serving => break,
            }
        }
        ready!(self.watch.poll(context));
        Poll::Ready(End::TooLate)
    }
}

/// The times of a connection that waits for its client: one timer, which is set anew only once it has fired.
struct Watch {
    shared: Arc<Shared>,
    link: Arc<Link>,
    stamp: Option<u32>,
    /// Until when the client may say nothing; `None` while it need not.
    deadline: Option<Instant>,
    timer: Option<Sleep>,
}

impl Watch {
    fn new(shared: Arc<Shared>, link: Arc<Link>) -> Self {
        Self {
            shared,
            link,
            stamp: None,
            deadline: None,
            timer: None,
        }
    }

    /// Ready when the client has let us wait for too long.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (phase, stamp) = self.link.phase();
        if self.stamp != Some(stamp) {
            self.stamp = Some(stamp);
            let config = &self.shared.config;
            let time = match phase {
                Phase::Head => Some(config.header_timeout),
                Phase::Idle => Some(config.keep_alive),
                Phase::Busy | Phase::Queued => None,
            };
            self.deadline = time.map(|time| self.shared.handle.now() + time);
        }
        loop {
            let Some(deadline) = self.deadline else {
                // A timer that is still set wakes us once for nothing.
                return Poll::Pending;
            };
            let timer = match &mut self.timer {
                Some(timer) if timer.deadline() <= deadline => timer,
                timer => timer.insert(self.shared.handle.sleep_until(deadline)),
            };
            ready!(Pin::new(timer).poll(context));
            self.timer = None;
            if self.shared.handle.now() >= deadline {
                return Poll::Ready(());
            }
        }
    }
}
