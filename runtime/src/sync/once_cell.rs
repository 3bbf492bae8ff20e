//! A value that is made once.

use super::once::{Once, OnceError};
use crate::loom::cell::UnsafeCell;

/// A value that is made at most once, by whoever needs it first; others wait until it is made.
///
/// ```
/// use roving_runtime::sync::OnceCell;
///
/// static NAME: OnceCell<String> = OnceCell::new();
/// assert_eq!(NAME.get(), None);
/// assert_eq!(NAME.get_or_init(|| "roving".to_owned())?, "roving");
/// assert_eq!(NAME.get_or_init(|| unreachable!())?, "roving");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OnceCell<T> {
    once: Once,
    /// Law: written by the one that `once` lets run; only read once that is done.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value may be made on one thread and dropped on another.
unsafe impl<T: Send> Send for OnceCell<T> {}
// SAFETY: one thread makes the value, which sends it to those that share it from then on.
unsafe impl<T: Send + Sync> Sync for OnceCell<T> {}

impl<T: std::panic::UnwindSafe> std::panic::UnwindSafe for OnceCell<T> {}
impl<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe> std::panic::RefUnwindSafe for OnceCell<T> {}

/// Why [`OnceCell::get_or_try_init`] gave no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitError<E> {
    /// The initialisation failed with this; the next one may try.
    Failed(E),
    /// See [`OnceError::Cancelled`].
    Cancelled,
    /// See [`OnceError::Reentrant`].
    Reentrant,
}

impl<E> From<OnceError> for InitError<E> {
    fn from(error: OnceError) -> Self {
        match error {
            OnceError::Cancelled => InitError::Cancelled,
            OnceError::Reentrant => InitError::Reentrant,
        }
    }
}

impl<E: std::fmt::Display> std::fmt::Display for InitError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            InitError::Failed(error) => write!(f, "an initialisation failed: {error}"),
            InitError::Cancelled => OnceError::Cancelled.fmt(f),
            InitError::Reentrant => OnceError::Reentrant.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for InitError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            InitError::Failed(error) => Some(error),
            InitError::Cancelled | InitError::Reentrant => None,
        }
    }
}

/// Why [`OnceCell::set`] did not set it. The value comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetError<T> {
    /// There is a value already.
    Occupied(T),
    /// See [`OnceError::Cancelled`].
    Cancelled(T),
    /// See [`OnceError::Reentrant`].
    Reentrant(T),
}

impl<T> SetError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        match self {
            SetError::Occupied(value) | SetError::Cancelled(value) | SetError::Reentrant(value) => value,
        }
    }
}

impl<T> std::fmt::Display for SetError<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SetError::Occupied(_) => f.write_str("there is a value already"),
            SetError::Cancelled(_) => OnceError::Cancelled.fmt(f),
            SetError::Reentrant(_) => OnceError::Reentrant.fmt(f),
        }
    }
}

impl<T: std::fmt::Debug> std::error::Error for SetError<T> {}

impl<T> OnceCell<T> {
    const_unless_loom! {
        /// An empty cell.
        pub const fn new() -> Self {
            Self { once: Once::new(), value: UnsafeCell::new(None) }
        }
    }

    /// The value, if it has been made.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if !self.once.is_completed() {
            return None;
        }
        // SAFETY: done: it has been written, which we see, and is not written again while `self` is borrowed.
        self.value.with(|value| unsafe { &*value }).as_ref()
    }

    /// The value, if it has been made.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        // SAFETY: the borrow is exclusive.
        self.value.with_mut(|value| unsafe { &mut *value }).as_mut()
    }

    /// The value, made by `init` if it has not been made. If `init` panics the cell stays empty, and one that waits
    /// calls its own.
    ///
    /// # Errors
    /// See [`OnceError`].
    #[inline]
    pub fn get_or_init(&self, init: impl FnOnce() -> T) -> Result<&T, OnceError> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        self.once.call_once(|| self.fill(init()))?;
        Ok(self.get().expect("it has been made"))
    }

    /// As [`OnceCell::get_or_init`], for an `init` that may fail: then the cell stays empty.
    ///
    /// # Errors
    /// See [`InitError`].
    pub fn get_or_try_init<E>(&self, init: impl FnOnce() -> Result<T, E>) -> Result<&T, InitError<E>> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let mut failure = None;
        self.once.try_call_once(|| match init() {
            Ok(value) => {
                self.fill(value);
                true
            }
            Err(error) => {
                failure = Some(error);
                false
            }
        })?;
        match failure {
            None => Ok(self.get().expect("it has been made")),
            Some(error) => Err(InitError::Failed(error)),
        }
    }

    /// Puts a value into an empty cell. While another makes one it waits.
    ///
    /// # Errors
    /// See [`SetError`].
    pub fn set(&self, value: T) -> Result<(), SetError<T>> {
        let mut value = Some(value);
        let called = self
            .once
            .call_once(|| self.fill(value.take().expect("called once")));
        match (called, value) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(value)) => Err(SetError::Occupied(value)),
            (Err(OnceError::Cancelled), Some(value)) => Err(SetError::Cancelled(value)),
            (Err(OnceError::Reentrant), Some(value)) => Err(SetError::Reentrant(value)),
            (Err(_), None) => unreachable!("it was set, and that is no error"),
        }
    }

    /// The value, if it has been made.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.once.waiting()
    }

    /// Called by the one that `once` lets run.
    fn fill(&self, made: T) {
        // SAFETY: nobody reads it before it is done, and nobody else writes it: see the law.
        let empty = self.value.with_mut(|value| unsafe { (*value).replace(made) });
        debug_assert!(empty.is_none());
    }
}

impl<T> Default for OnceCell<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OnceCell").field(&self.get()).finish()
    }
}
