//! One connection: hyper's, with our times and the way it is stopped around it.

use crate::guard::Guard;
use crate::link::{Link, Phase};
use crate::listener::{Endpoint, Stream};
use crate::registry::{Course, Seat};
use crate::server::Shared;
use crate::service::Requests;
use crate::strict::Strict;
use hyper::server::conn::http1;
use roving_runtime::Sleep;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// Serves a connection to its end.
pub(crate) async fn serve<S: Stream>(shared: Arc<Shared>, stream: S, endpoint: Endpoint, seat: Seat) {
    let link = Arc::new(Link::new(shared.meter.clone()));
    let guard = Guard::new(
        stream,
        link.clone(),
        shared.handle.clone(),
        shared.config.write_timeout,
    );
    let stream = Strict::new(guard, shared.strict.clone());
    let checked = stream.watch();
    link.set_checked(checked.clone());
    let endpoint = Arc::new(endpoint);
    let requests = Requests {
        shared: shared.clone(),
        endpoint: endpoint.clone(),
        link: link.clone(),
    };
    let mut builder = http1::Builder::new();
    shared.strict.limits.configure(&mut builder);
    let http = builder
        .auto_date_header(shared.config.date)
        // Not `pipeline_flush`: with it hyper takes in a body without limit, whatever the client takes, and flushes no
        // response while bytes of the next request are there.
        .serve_connection(stream, requests);
    let mut connection = Connection {
        http,
        watch: Watch::new(shared.clone(), link.clone()),
        seat,
        entered: false,
        draining: false,
    };
    let ended = poll_fn(|context| connection.poll(context)).await;
    let Connection { http, seat, .. } = connection;
    let mut stream = http.into_parts().io;
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
        let mut close = std::pin::pin!(stream.close());
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
    http: http1::Connection<Strict<Guard<S>>, Requests>,
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
                Course::Draining | Course::Serving => break,
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
                Phase::Busy => None,
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
