//! Accepting connections.

use crate::connection;
use crate::listener::{Accepted, Listener};
use crate::registry::{Course, Seat};
use crate::server::Shared;
use roving_runtime::{sleep_future, spawn_future};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// Between two tries while the system has run out of something: the first time, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// So many are accepted in a go: the connections of this worker are to have their turns amid a flood of new ones.
const AT_ONCE: u32 = 16;

/// Accepts until the server stops; then those who have connected already, and no more. Where another process has taken over, who
/// waits in the backlog is that one's.
pub(crate) async fn accept(shared: Arc<Shared>, listener: Arc<Listener>, seat: Seat) {
    let local = listener.address();
    let mut pause = PAUSE.0;
    let mut entered = false;
    let mut left = AT_ONCE;
    loop {
        let accepted = poll_fn(|context| {
            if !entered {
                entered = true;
                seat.enter(context.waker());
            }
            let course = shared.registry.course();
            if course == Course::HandedOver {
                return Poll::Ready(None);
            }
            if left == 0 {
                left = AT_ONCE;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            left -= 1;
            let stops = course != Course::Serving;
            match listener.poll_accept(context, &local) {
                Poll::Pending if stops => Poll::Ready(None),
                accepted => accepted.map(Some),
            }
        })
        .await;
        let Some(accepted) = accepted else {
            listener.close();
            return;
        };
        match accepted {
            Ok(Accepted::Tcp(stream, endpoint)) => {
                let seat = shared.registry.sit();
                spawn_future(connection::serve(shared.clone(), stream, endpoint, seat)).detach();
            }
            Ok(Accepted::Unix(stream, endpoint)) => {
                let seat = shared.registry.sit();
                spawn_future(connection::serve(shared.clone(), stream, endpoint, seat)).detach();
            }
            Err(error) => {
                if is_closed(&error) {
                    return;
                }
                shared.counts.accept_failed();
                if !is_of_one_connection(&error) {
                    // Out of descriptors or memory: the backlog keeps who waits meanwhile.
                    sleep_future(pause).await;
                    pause = (2 * pause).min(PAUSE.1);
                }
                continue;
            }
        }
        pause = PAUSE.0;
    }
}

fn is_closed(error: &io::Error) -> bool {
    const EBADF: i32 = 9;
    error.raw_os_error() == Some(EBADF) || error.kind() == io::ErrorKind::NotConnected
}

/// accept(2): "treat them like EAGAIN by retrying".
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::PermissionDenied
    )
}
