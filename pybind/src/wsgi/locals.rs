//! Sets of thread-locals that outlive requests: each request's fiber is lent one, so that clients which applications keep per
//! thread are not made anew for every request.
//!
//! A set is with one fiber or in the pool, never both: it is moved. It is lent to fibers of the thread alone that it was made on,
//! since there are clients that may not change theirs. What is lent last is what was given back last, so that few are in use; of
//! more than are to be kept the one goes that was not used for longest, and with it its values.

use crate::thread_locals::{self, Locals};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) struct Pool {
    most: usize,
    state: Mutex<State>,
}

/// Under a lock that is held for a few instructions. No set is dropped under it: its values' destructors are Python code.
#[derive(Default)]
struct State {
    sets: VecDeque<Locals>,
    closed: bool,
}

impl Pool {
    /// Keeps so many sets at most.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends a set to the running fiber, which has run no Python code yet; if there is one for its thread.
    pub(crate) fn lend(&self) {
        let Some(thread) = thread_locals::thread() else {
            return;
        };
        let set = {
            let mut state = self.state();
            let found = state.sets.iter().rposition(|set| set.thread() == thread);
            found.and_then(|index| state.sets.remove(index))
        };
        if let Some(set) = set {
            thread_locals::lend(set);
        }
    }

    /// Takes the set of the running fiber, which runs no more Python code but destructors.
    pub(crate) fn take_back(&self) {
        let Some(set) = thread_locals::take() else {
            return;
        };
        let dropped = {
            let mut state = self.state();
            if state.closed {
                Some(set)
            } else {
                state.sets.push_back(set);
                let over = state.sets.len() > self.most;
                if over { state.sets.pop_front() } else { None }
            }
        };
        drop(dropped);
    }

    /// Drops all sets there are, and those that are given back from now on.
    pub(crate) fn close(&self) {
        let sets = {
            let mut state = self.state();
            state.closed = true;
            std::mem::take(&mut state.sets)
        };
        drop(sets);
    }
}
