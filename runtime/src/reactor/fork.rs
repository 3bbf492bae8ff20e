//! After a fork the child shares the parent's polls with it: what it would change there, it would change for
//! the parent. So a driver is of the process that made it, and in any other it counts as gone.

use crate::loom::statics::AtomicU64;
use crate::loom::sync::OnceLock;
use crate::loom::sync::atomic::Ordering;

static FORKS: AtomicU64 = AtomicU64::new(0);

/// A process, among those forked from one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process(u64);

impl Process {
    /// This one.
    #[inline]
    pub(super) fn current() -> Self {
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// This one, from whose children on it can be told.
    pub(super) fn enroll() -> Self {
        static HANDLER: OnceLock<()> = OnceLock::new();
        HANDLER.get_or_init(|| {
            // SAFETY: the handler makes one atomic operation, which is safe in a child of many threads. (It fails
            // when there is no memory: children then are taken for their parents.)
            unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        });
        Self::current()
    }
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
