//! The future of a stream, and the time it may wait for its client.

use super::streams::{Stream, Streams};
use hyper::rt::Executor;
use roving_runtime::{Handle, Sleep};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Spawns the futures of a connection's streams.
#[derive(Clone)]
pub(super) struct Spawner {
    pub(super) streams: Arc<Streams>,
    pub(super) handle: Handle,
    pub(super) patience: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, future: F) {
        // hyper makes no others, save for CONNECT, which is refused.
        let Some(stream) = self.streams.take_opened() else {
            debug_assert!(false, "hyper spawns a future that is no stream's");
            return;
        };
        let timed = Timed {
            future: Box::pin(future),
            stream,
            handle: self.handle.clone(),
            patience: self.patience,
            waits: None,
        };
        self.handle.spawn_future(timed).detach();
    }
}

/// hyper's future of a stream. It ends, which resets the stream, when the client takes nothing for too long: with a window
/// of zero it would keep the response for as long as it answers pings.
struct Timed<F> {
    future: Pin<Box<F>>,
    stream: Arc<Stream>,
    handle: Handle,
    patience: Duration,
    /// Where it was when it began to wait, and until when it does.
    waits: Option<(u32, Sleep)>,
}

impl<F: Future<Output = ()>> Future for Timed<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.future.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let Some(place) = this.stream.waits_for_client() else {
            this.waits = None;
            return Poll::Pending;
        };
        let sleep = match &mut this.waits {
            Some((known, sleep)) if *known == place => sleep,
            waits => {
                let sleep = this.handle.sleep_until(this.handle.now() + this.patience);
                &mut waits.insert((place, sleep)).1
            }
        };
        ready!(Pin::new(sleep).poll(context));
        Poll::Ready(())
    }
}

impl<F> Drop for Timed<F> {
    fn drop(&mut self) {
        self.stream.close();
    }
}
