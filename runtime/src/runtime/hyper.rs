//! hyper on roving: its I/O traits over our streams, its timer, its executor. No tokio runtime takes part.

use super::future::spawn_future;
use super::handle::Handle;
use super::timer::Sleep;
use crate::net::{TcpStream, UnixStream};
use hyper::rt::{Executor, Read, ReadBufCursor, Timer, Write};
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

macro_rules! hyper_io {
    ($stream:ty) => {
        impl Read for $stream {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                mut buf: ReadBufCursor<'_>,
            ) -> Poll<io::Result<()>> {
                read_into(&mut buf, |bytes| {
                    <$stream>::poll_read(&self, context, bytes)
                })
            }
        }

        impl Write for $stream {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                <$stream>::poll_write(&self, context, buf)
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                // The kernel has it.
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.shutdown(std::net::Shutdown::Write) {
                    // The other side was faster.
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
                    done => Poll::Ready(done),
                }
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                <$stream>::poll_write_vectored(&self, context, bufs)
            }
        }
    };
}

hyper_io!(TcpStream);
hyper_io!(UnixStream);

/// Reads into hyper's buffer, which may not be initialised yet.
fn read_into(
    buf: &mut ReadBufCursor<'_>,
    read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<()>> {
    // Zeroing what hyper offers (8 KiB at first, more for fast senders) costs far less than the system call.
    // SAFETY: only initialised bytes are written to it.
    let spare = unsafe { buf.as_mut() };
    spare.fill(std::mem::MaybeUninit::new(0));
    // SAFETY: all of it has just been initialised.
    let bytes = unsafe { spare.assume_init_mut() };
    let count = ready!(read(bytes))?;
    // SAFETY: initialised above, and no more than there is: `read` was given that many bytes.
    unsafe { buf.advance(count) };
    Poll::Ready(Ok(()))
}

/// hyper's timer. Clone it into every connection builder.
///
/// ```no_run
/// # fn f(handle: roving_runtime::Handle) {
/// let mut builder = hyper::server::conn::http1::Builder::new();
/// builder.timer(roving_runtime::hyper::HyperTimer::new(handle));
/// # }
/// ```
#[derive(Clone)]
pub struct HyperTimer(Handle);

impl HyperTimer {
    /// A timer of this runtime.
    pub fn new(handle: Handle) -> Self {
        Self(handle)
    }
}

impl Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        let now = self.0.now();
        self.sleep_until(
            now.checked_add(duration)
                .unwrap_or_else(|| now + super::lifecycle::FAR),
        )
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(self.0.sleep_until(deadline))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>, deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Sleep>() {
            Some(sleep) => sleep.get_mut().reset(deadline),
            None => *sleep = self.sleep_until(deadline),
        }
    }
}

impl hyper::rt::Sleep for Sleep {}

/// hyper's executor: what it spawns goes to the current runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct HyperExecutor;

impl<F> Executor<F> for HyperExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        spawn_future(future).detach();
    }
}
