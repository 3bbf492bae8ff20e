//! The first steps of a connection.
//!
//! An RSA signature takes a worker longer than a turn should be, so those handshakes are done on the blocking pool: a worker
//! that is busy with one answers neither its other connections nor those who wait for it to come to a stop. Those with
//! keys of elliptic curves are done in place, in half the time; where to draw the line is still to be measured.

use super::files::Loaded;
use super::stream::TlsStream;
use super::wire::Wire;
use hyper::rt::{Read, ReadBuf, Write};
use roving_runtime::Handle;
use rustls::ServerConnection;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// After an alert a client is read from for so long, and so many bytes.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 256 << 10);

/// Why there is no TLS, and the stream of a client that has been told.
pub(crate) struct Refusal<S> {
    pub(crate) error: io::Error,
    pub(crate) stream: Option<S>,
}

impl<S> From<io::Error> for Refusal<S> {
    fn from(error: io::Error) -> Self {
        Self { error, stream: None }
    }
}

/// Shakes hands. The caller sees to it that this does not last for ever.
///
/// # Errors
/// Those of the connection, and `InvalidData` for what is wrong with what the client sends; the client has been told then.
/// `Ok(None)`: the client has left without a word.
pub(crate) async fn accept<S: Read + Write + Unpin>(
    stream: S,
    loaded: &Loaded,
    handle: &Handle,
) -> Result<Option<TlsStream<S>>, Refusal<S>> {
    let mut wire = Wire::new(stream);
    let session = ServerConnection::new(loaded.config.clone()).map_err(io::Error::other)?;
    let mut session = Box::new(session);
    let mut silent = true;
    while session.is_handshaking() {
        poll_fn(|context| wire.poll_drain(&mut session, context)).await?;
        let count = poll_fn(|context| wire.poll_fill(&mut session, context)).await?;
        if count == 0 {
            return match silent {
                true => Ok(None),
                false => Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the client left during the TLS handshake",
                )
                .into()),
            };
        }
        silent = false;
        let processed;
        (session, processed) = if loaded.is_slow {
            elsewhere(handle, session).await?
        } else {
            let processed = session.process_new_packets().map(drop);
            (session, processed)
        };
        if let Err(error) = processed {
            // The alert, and the end; whether the client takes them is its affair.
            let _ = poll_fn(|context| wire.poll_drain(&mut session, context)).await;
            let _ = poll_fn(|context| Pin::new(&mut wire.io).poll_shutdown(context)).await;
            return Err(Refusal {
                error: io::Error::new(io::ErrorKind::InvalidData, error),
                stream: Some(wire.io),
            });
        }
    }
    poll_fn(|context| wire.poll_drain(&mut session, context)).await?;
    Ok(Some(TlsStream::new(wire, session)))
}

/// Reads on, for a while, until the client ends its side: closed with bytes unread the connection would be reset, and a reset
/// may overtake the alert.
pub(crate) async fn linger<S: Read + Unpin>(mut stream: S, handle: &Handle) {
    let mut limit = pin!(handle.sleep_until(handle.now() + LINGER.0));
    let mut left = LINGER.1;
    poll_fn(|context| {
        loop {
            let mut scratch = [MaybeUninit::uninit(); 4096];
            let mut buf = ReadBuf::uninit(&mut scratch);
            match Pin::new(&mut stream).poll_read(context, buf.unfilled()) {
                Poll::Ready(Ok(())) if (1..left).contains(&buf.filled().len()) => left -= buf.filled().len(),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return limit.as_mut().poll(context),
            }
        }
    })
    .await;
}

type Processed = (Box<ServerConnection>, Result<(), rustls::Error>);

/// Has a thread of the blocking pool look at what has come.
async fn elsewhere(handle: &Handle, mut session: Box<ServerConnection>) -> io::Result<Processed> {
    let place = Arc::new(Place::default());
    let sender = Sender(place.clone());
    // Dropped, it lets the call go on.
    drop(handle.spawn_blocking(move || {
        let processed = session.process_new_packets().map(drop);
        sender.0.set(Found::Done((session, processed)));
    }));
    poll_fn(|context| place.poll(context)).await
}

/// Where the thread leaves what it has found. The lock is held for a few instructions.
#[derive(Default)]
struct Place(Mutex<(Found, Option<Waker>)>);

#[derive(Default)]
enum Found {
    #[default]
    Nothing,
    Done(Processed),
    /// The pool has dropped the call.
    Lost,
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, (Found, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, found: Found) {
        let mut place = self.lock();
        place.0 = found;
        let waker = place.1.take();
        drop(place);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<io::Result<Processed>> {
        let mut place = self.lock();
        match std::mem::take(&mut place.0) {
            Found::Nothing => {
                place.1 = Some(context.waker().clone());
                Poll::Pending
            }
            Found::Done(processed) => Poll::Ready(Ok(processed)),
            Found::Lost => Poll::Ready(Err(io::Error::other("the runtime ends"))),
        }
    }
}

/// Says so when the call is dropped without having run.
struct Sender(Arc<Place>);

impl Drop for Sender {
    fn drop(&mut self) {
        if matches!(self.0.lock().0, Found::Nothing) {
            // After a call that has run this changes nothing: nobody polls any more.
            self.0.set(Found::Lost);
        }
    }
}
