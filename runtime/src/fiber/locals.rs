//! Fiber-local slots: like `thread_local!`, one value a fiber; on a plain thread, one a thread.

use super::current;
use crate::loom::statics::AtomicU64;
use crate::loom::sync::OnceLock;
use crate::loom::sync::atomic::Ordering;
use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

/// The values of one fiber, by key. Allocates nothing until the first use.
pub(crate) struct Locals(Vec<Option<Rc<dyn Any>>>);

impl Locals {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    fn get(&self, key: usize) -> Option<Rc<dyn Any>> {
        self.0.get(key)?.clone()
    }

    fn set(&mut self, key: usize, value: Rc<dyn Any>) {
        if self.0.len() <= key {
            self.0.resize_with(key + 1, || None);
        }
        self.0[key] = Some(value);
    }

    fn take_last(&mut self) -> Option<Rc<dyn Any>> {
        loop {
            if let Some(value) = self.0.pop()? {
                return Some(value);
            }
        }
    }
}

thread_local! {
    static OF_THREAD: RefCell<Locals> = const { RefCell::new(Locals::new()) };
}

/// A key to one value per fiber. Declare it as a static; the value is made at its first use in each
/// fiber (or plain thread) and dropped on that fiber's own stack when it ends.
///
/// ```
/// use roving_runtime::FiberLocal;
/// use std::cell::Cell;
///
/// static DEPTH: FiberLocal<Cell<u32>> = FiberLocal::new(|| Cell::new(0));
/// DEPTH.with(|depth| depth.set(depth.get() + 1));
/// assert_eq!(DEPTH.with(Cell::get), 1);
/// ```
pub struct FiberLocal<T: 'static> {
    key: OnceLock<usize>,
    init: fn() -> T,
}

impl<T: 'static> FiberLocal<T> {
    /// A new key whose values `init` makes.
    pub const fn new(init: fn() -> T) -> Self {
        Self {
            key: OnceLock::new(),
            init,
        }
    }

    /// Calls `f` with this fiber's value, or this thread's outside fibers. `f` may park.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        let key = *self.key.get_or_init(|| {
            usize::try_from(NEXT_KEY.fetch_add(1, Ordering::Relaxed)).expect("fewer keys than addresses")
        });
        let value = with_locals(|locals| locals.get(key)).unwrap_or_else(|| {
            // `init` runs outside the borrow: it may use other keys.
            let made: Rc<dyn Any> = Rc::new((self.init)());
            with_locals(|locals| locals.set(key, made.clone()));
            made
        });
        // The Rc keeps the value alive even if `f` ends the locals (it cannot) or is parked.
        f(value.downcast_ref::<T>().expect("a key is used with one type"))
    }
}

fn with_locals<R>(f: impl FnOnce(&mut Locals) -> R) -> R {
    match current::fiber() {
        Some(core) => {
            // SAFETY: the running fiber is alive.
            let core = unsafe { core.as_ref() };
            // SAFETY: this thread is its home, and `f` only touches the slots.
            unsafe { core.with_owned(|owned| f(&mut owned.locals)) }
        }
        None => OF_THREAD.with(|locals| f(&mut locals.borrow_mut())),
    }
}

/// Drops the current fiber's values, highest key first, on its own stack. A value made by another's
/// destructor is dropped too.
pub(super) fn drop_all() {
    while let Some(value) = with_locals(Locals::take_last) {
        drop(value);
    }
}
