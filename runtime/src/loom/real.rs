//! The types of ordinary builds.

pub(crate) mod sync {
    pub(crate) use std::sync::{Arc, OnceLock, Weak};

    pub(crate) mod atomic {
        pub(crate) use std::sync::atomic::{
            AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
        };
    }

    use std::sync::{PoisonError, TryLockError};
    use std::time::Instant;

    // Those of std, and not parking_lot's: its waiters stand in a table that the whole process shares, behind locks that a
    // fork may find held by a thread which the child does not have. Std's are words of their own.

    /// A mutex without poisoning: a panic inside the scheduler aborts, it never leaves broken data behind.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T: ?Sized>(std::sync::Mutex<T>);

    pub(crate) type MutexGuard<'a, T> = std::sync::MutexGuard<'a, T>;

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        #[inline]
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        #[inline]
        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            match self.0.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(std::sync::Condvar);

    impl Condvar {
        pub(crate) const fn new() -> Self {
            Self(std::sync::Condvar::new())
        }

        /// Waits until notified, or until `deadline`; true when the deadline passed first.
        /// May wake spuriously.
        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Option<Instant>) -> bool {
            // Std's waits take the guard by value; ours borrow it.
            // SAFETY: a live one is put back below before anything can look at it.
            let taken = unsafe { std::ptr::read(guard) };
            let bomb = AbortOnUnwind;
            let (back, timed_out) = match deadline {
                None => {
                    let back = self.0.wait(taken);
                    (back.unwrap_or_else(PoisonError::into_inner), false)
                }
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    let ended = self.0.wait_timeout(taken, left);
                    let (back, ended) = ended.unwrap_or_else(PoisonError::into_inner);
                    (back, ended.timed_out())
                }
            };
            // SAFETY: overwrites the one that was moved out above, without dropping it.
            unsafe { std::ptr::write(guard, back) };
            std::mem::forget(bomb);
            timed_out
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// Unwinding from a wait would drop a guard twice.
    struct AbortOnUnwind;

    impl Drop for AbortOnUnwind {
        fn drop(&mut self) {
            std::process::abort();
        }
    }
}

pub(crate) mod futex {
    //! Sleeping until a word changes.

    use super::sync::atomic::AtomicU32;
    use std::time::Instant;

    /// Where the threads that wait for one word sleep. The word itself, as far as the system is concerned.
    #[cfg(target_os = "linux")]
    #[derive(Debug)]
    pub(crate) struct Gate(());

    #[cfg(target_os = "linux")]
    impl Gate {
        pub(crate) fn new() -> Self {
            Self(())
        }

        /// Sleeps while `word` is `value`, until woken, until `deadline`, or until a signal handler has run on this
        /// thread; true when the deadline passed. May wake spuriously.
        pub(crate) fn wait(&self, word: &AtomicU32, value: u32, deadline: Option<Instant>) -> bool {
            let timeout = deadline.map(|at| {
                let left = at.saturating_duration_since(Instant::now());
                libc::timespec {
                    tv_sec: left.as_secs().try_into().unwrap_or(libc::time_t::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                }
            });
            let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            let flags = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
            // SAFETY: the word and the time are alive throughout.
            let ended = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), flags, value, timeout) };
            ended == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ETIMEDOUT)
        }

        /// Wakes one that sleeps. It has changed the word first.
        pub(crate) fn wake_one(&self, word: &AtomicU32) {
            let flags = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
            // SAFETY: the system only takes the address.
            unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), flags, 1) };
        }
    }

    /// Without futexes, a signal does not end the sleep.
    #[cfg(not(target_os = "linux"))]
    #[derive(Debug, Default)]
    pub(crate) struct Gate(super::sync::Mutex<()>, super::sync::Condvar);

    #[cfg(not(target_os = "linux"))]
    impl Gate {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn wait(&self, word: &AtomicU32, value: u32, deadline: Option<Instant>) -> bool {
            let mut guard = self.0.lock();
            // Under the lock, which the waker takes once between its change and its notification.
            word.load(std::sync::atomic::Ordering::Relaxed) == value
                && self.1.wait_until(&mut guard, deadline)
        }

        pub(crate) fn wake_one(&self, _word: &AtomicU32) {
            drop(self.0.lock());
            self.1.notify_one();
        }
    }
}

pub(crate) mod cell {
    /// `std::cell::UnsafeCell` behind loom's closure interface.
    #[derive(Debug, Default)]
    #[repr(transparent)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner()
        }

        /// Calls `f` with a pointer for reading. Dereferencing it is the caller's unsafe act.
        #[inline(always)]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        /// Calls `f` with a pointer for writing. Dereferencing it is the caller's unsafe act.
        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

pub(crate) mod deque {
    pub(crate) use crossbeam_deque::{Injector, Steal, Stealer, Worker};
}

pub(crate) use std::thread_local;

pub(crate) mod hint {
    pub(crate) use std::hint::spin_loop;
}

pub(crate) mod thread {
    pub(crate) use std::thread::{Builder, JoinHandle, yield_now};
}

pub(crate) use crossbeam_utils::CachePadded;

pub(crate) mod statics {
    //! Atomics that may be statics and take no part in a protocol (counters of names and such).
    pub(crate) use std::sync::atomic::AtomicU64;
}
