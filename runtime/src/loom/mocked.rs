//! loom's types under the names of `real`, and simple stand-ins for what loom cannot see into.

pub(crate) mod sync {
    // std's Arc: loom's cannot hold a trait object, and the counts of Arc are not ours to check.
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::{OnceLock, Weak};

    pub(crate) mod atomic {
        pub(crate) use loom::sync::atomic::{
            AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
        };
    }

    use std::time::Instant;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    pub(crate) type MutexGuard<'a, T> = loom::sync::MutexGuard<'a, T>;

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("a model panicked while it held this lock")
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        /// Time does not pass in a model: a wait with a deadline is over as soon as it has begun. When that is, and
        /// what comes before it, is what models try out.
        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Option<Instant>) -> bool {
            if deadline.is_some() {
                return true;
            }
            // loom's wait takes the guard by value; ours borrows it.
            // SAFETY: the guard is moved out and a live one is moved back in before anything can
            // look at it; loom's wait does not unwind except to end the whole model.
            unsafe {
                let taken = std::ptr::read(guard);
                let back = self
                    .0
                    .wait(taken)
                    .expect("a model panicked while it held this lock");
                std::ptr::write(guard, back);
            }
            false
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

pub(crate) mod futex {
    //! A word and a place to sleep, out of a lock and a condition variable.

    use super::sync::atomic::{AtomicU32, Ordering};
    use super::sync::{Condvar, Mutex};
    use std::time::Instant;

    #[derive(Debug, Default)]
    pub(crate) struct Gate(Mutex<()>, Condvar);

    impl Gate {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn wait(&self, word: &AtomicU32, value: u32, deadline: Option<Instant>) -> bool {
            let mut guard = self.0.lock();
            word.load(Ordering::Relaxed) == value && self.1.wait_until(&mut guard, deadline)
        }

        pub(crate) fn wake_one(&self, _word: &AtomicU32) {
            drop(self.0.lock());
            self.1.notify_one();
        }
    }
}

pub(crate) mod cell {
    pub(crate) use loom::cell::UnsafeCell;
}

pub(crate) mod deque {
    //! The interface of crossbeam-deque over one locked queue.

    use super::sync::{Arc, Mutex};
    use std::collections::VecDeque;

    #[derive(Debug)]
    pub(crate) enum Steal<T> {
        Empty,
        Success(T),
        Retry,
    }

    impl<T> Steal<T> {
        pub(crate) fn success(self) -> Option<T> {
            match self {
                Steal::Success(item) => Some(item),
                Steal::Empty | Steal::Retry => None,
            }
        }

        pub(crate) fn is_retry(&self) -> bool {
            matches!(self, Steal::Retry)
        }
    }

    #[derive(Debug)]
    pub(crate) struct Worker<T>(Arc<Mutex<VecDeque<T>>>);

    #[derive(Debug)]
    pub(crate) struct Stealer<T>(Arc<Mutex<VecDeque<T>>>);

    impl<T> Clone for Stealer<T> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }

    impl<T> Worker<T> {
        pub(crate) fn new_fifo() -> Self {
            Self(Arc::new(Mutex::new(VecDeque::new())))
        }

        pub(crate) fn stealer(&self) -> Stealer<T> {
            Stealer(self.0.clone())
        }

        pub(crate) fn push(&self, item: T) {
            self.0.lock().push_back(item);
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.0.lock().pop_front()
        }

        pub(crate) fn len(&self) -> usize {
            self.0.lock().len()
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.len() == 0
        }
    }

    impl<T> Stealer<T> {
        pub(crate) fn steal(&self) -> Steal<T> {
            match self.0.lock().pop_front() {
                Some(item) => Steal::Success(item),
                None => Steal::Empty,
            }
        }

        pub(crate) fn steal_batch_and_pop(&self, dest: &Worker<T>) -> Steal<T> {
            let mut batch: Vec<T> = {
                let mut queue = self.0.lock();
                let half = queue.len().div_ceil(2);
                queue.drain(..half).collect()
            };
            if batch.is_empty() {
                return Steal::Empty;
            }
            let first = batch.remove(0);
            dest.0.lock().extend(batch);
            Steal::Success(first)
        }

        pub(crate) fn len(&self) -> usize {
            self.0.lock().len()
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.len() == 0
        }
    }

    #[derive(Debug)]
    pub(crate) struct Injector<T>(Mutex<VecDeque<T>>);

    impl<T> Default for Injector<T> {
        fn default() -> Self {
            Self::new()
        }
    }

    impl<T> Injector<T> {
        pub(crate) fn new() -> Self {
            Self(Mutex::new(VecDeque::new()))
        }

        pub(crate) fn push(&self, item: T) {
            self.0.lock().push_back(item);
        }

        pub(crate) fn steal(&self) -> Steal<T> {
            match self.0.lock().pop_front() {
                Some(item) => Steal::Success(item),
                None => Steal::Empty,
            }
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.lock().is_empty()
        }

        pub(crate) fn len(&self) -> usize {
            self.0.lock().len()
        }
    }
}

/// loom runs a model's threads as coroutines of one: std's thread-locals would be shared by all of them.
pub(crate) use loom::thread_local;

pub(crate) mod hint {
    pub(crate) use loom::hint::spin_loop;
}

pub(crate) mod thread {
    pub(crate) use loom::thread::{Builder, JoinHandle, yield_now};
}

/// Padding only slows a model down.
#[derive(Debug, Default)]
pub(crate) struct CachePadded<T>(T);

impl<T> CachePadded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> std::ops::Deref for CachePadded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

pub(crate) mod statics {
    //! Atomics that may be statics and take no part in a protocol (counters of names and such).
    pub(crate) use std::sync::atomic::AtomicU64;
}
