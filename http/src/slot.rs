//! Where the application leaves its response for the connection.

use crate::response_body::ResponseBody;
use http::Response;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// To be called when the client goes before it has its response.
pub(crate) type Hook = Box<dyn FnOnce() + Send>;

/// Its lock is held for a few instructions, with nothing else under it.
pub(crate) struct Slot(Mutex<State>);

enum State {
    Empty {
        waker: Option<Waker>,
        hook: Option<Hook>,
    },
    Full(Box<Response<ResponseBody>>),
    /// The connection has it.
    Taken,
    /// The connection is gone.
    Gone,
}

impl Slot {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State::Empty {
            waker: None,
            hook: None,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the response; false when nobody will have it.
    pub(crate) fn fill(&self, response: Response<ResponseBody>) -> bool {
        let response = Box::new(response);
        let mut state = self.state();
        let State::Empty { waker, hook } = &mut *state else {
            return false;
        };
        let (waker, hook) = (waker.take(), hook.take());
        *state = State::Full(response);
        drop(state);
        drop(hook);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Has `hook` called should the client go before it has a response; at once when it has gone.
    pub(crate) fn on_gone(&self, hook: Hook) {
        let mut state = self.state();
        match &mut *state {
            State::Empty { hook: place, .. } => *place = Some(hook),
            State::Gone => {
                drop(state);
                hook();
            }
            State::Full(_) | State::Taken => drop(state),
        }
    }

    /// Gives up the hook.
    pub(crate) fn take_hook(&self) -> Option<Hook> {
        match &mut *self.state() {
            State::Empty { hook, .. } => hook.take(),
            State::Full(_) | State::Taken | State::Gone => None,
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(&*self.state(), State::Gone)
    }

    pub(crate) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Response<ResponseBody>> {
        let mut state = self.state();
        match &mut *state {
            State::Empty { waker, .. } => {
                match waker {
                    Some(waker) if waker.will_wake(context.waker()) => {}
                    _ => *waker = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            State::Full(_) => match std::mem::replace(&mut *state, State::Taken) {
                State::Full(response) => Poll::Ready(*response),
                _ => unreachable!("it was full"),
            },
            State::Taken | State::Gone => unreachable!("nobody polls it once it has been taken"),
        }
    }

    /// The client has gone, or the connection has ended for another reason.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        if matches!(&*state, State::Taken) {
            return;
        }
        let before = std::mem::replace(&mut *state, State::Gone);
        drop(state);
        if let State::Empty { hook: Some(hook), .. } = before {
            hook();
        }
    }
}
