//! One connection: hyper's, with our times and the way it is stopped around it.

use crate::guard::Guard;
use crate::link::{Link, Phase};
use crate::listener::{Endpoint, Stream};
use crate::registry::{Course, Seat};
use crate::server::{self, Shared};
use crate::service::Requests;
use hyper::server::conn::http1;
use roving_runtime::Sleep;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// For how long, and how many bytes, a client that was refused amid its body may go on sending before the connection is
/// closed: closed at once, it would find a reset instead of the answer.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 4 << 20);

/// Serves a connection to its end.
pub(crate) async fn serve<S: Stream>(shared: Arc<Shared>, stream: S, endpoint: Endpoint, seat: Seat) {
    let link = Arc::new(Link::new());
    let guard = Guard::new(
        stream,
        link.clone(),
        shared.handle.clone(),
        shared.config.write_timeout,
    );
    let requests = Requests(Arc::new(server::Context {
        shared: shared.clone(),
        endpoint: Arc::new(endpoint),
        link: link.clone(),
    }));
    let config = &shared.config;
    let http = http1::Builder::new()
        .max_headers(config.max_headers)
        .max_header_size(config.max_head)
        .max_buf_size(config.max_head.max(64 << 10))
        .auto_date_header(config.date)
        // Not `pipeline_flush`: with it hyper takes in a body without limit, whatever the client takes.
        .serve_connection(guard, requests);
    let mut connection = Connection {
        http,
        watch: Watch::new(shared.clone(), link.clone()),
        seat,
        entered: false,
        draining: false,
    };
    let ended = poll_fn(|context| connection.poll(context)).await;
    let Connection { http, seat, .. } = connection;
    let stream = http.into_parts().io.into_inner();
    if ended != End::Cut {
        stream.shutdown_write();
    }
    if ended == End::Closed && link.is_unread() {
        linger(&shared, &stream).await;
    }
    drop(stream);
    // Only now: who waits for the connections' end may end the runtime.
    drop(seat);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The last response has been sent, or the client has closed, or was told off.
    Closed,
    /// The client is gone, or let us wait for too long.
    Failed,
    /// The server is in a hurry.
    Cut,
}

struct Connection<S: Stream> {
    http: http1::Connection<Guard<S>, Requests>,
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
                // With bytes left over after an error it was told of: it may still be sending.
                Poll::Ready(Err(error)) if error.is_parse() => {
                    self.watch.link.set_unread();
                    return Poll::Ready(End::Closed);
                }
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
        Poll::Ready(End::Failed)
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

/// Reads what the client still sends, for a while.
async fn linger<S: Stream>(shared: &Shared, stream: &S) {
    let handle = &shared.handle;
    let mut sleep = handle.sleep_until(handle.now() + LINGER.0);
    let mut left = LINGER.1;
    let mut buf = vec![0; 16 << 10];
    poll_fn(|context| {
        loop {
            if Pin::new(&mut sleep).poll(context).is_ready() || shared.registry.course() == Course::Cut {
                return Poll::Ready(());
            }
            match ready!(stream.poll_discard(context, &mut buf)) {
                Ok(count) if count != 0 && count < left => left -= count,
                _ => return Poll::Ready(()),
            }
        }
    })
    .await;
}
