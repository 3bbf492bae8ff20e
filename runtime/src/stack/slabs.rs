//! Where all stacks of a runtime come from, and where they go back to. Shared by its workers' pools,
//! which come here for many stacks at a time.

use super::depot::Depot;
use super::{GuardKind, StackError, sys};
use crate::loom::sync::Arc;

/// How stacks are to be made.
#[derive(Debug, Clone, Default)]
pub(crate) struct SlabsConfig {
    /// How many bytes at the top of each stack belong to the embedder.
    pub(crate) embedder_bytes: usize,
    /// Use this kind of guard, not the best that the kernel can do.
    pub(crate) guard: Option<GuardKind>,
    /// Let the guards of this runtime's stacks use at most this many mappings.
    pub(crate) max_guard_mappings: Option<usize>,
}

/// A count of a runtime's stacks. Taken while workers run, so the parts may be off by a few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StackStats {
    /// Stacks that fibers hold, the leaked ones included.
    pub(crate) live: usize,
    /// Stacks kept warm, in the pools of workers and for all of them.
    pub(crate) cached: usize,
    /// Stacks with a guard and no memory behind them, held by nobody.
    pub(crate) free: usize,
    /// Stacks given up for ever, with their memory.
    pub(crate) leaked: usize,
    /// Large mappings.
    pub(crate) slabs: usize,
    /// Address space that the slabs take up.
    pub(crate) mapped_bytes: usize,
    /// How the stacks are guarded.
    pub(crate) guard: GuardKind,
}

/// The slabs of one runtime. Dropped, it unmaps them, except for those with a stack that has not come
/// back: these stay until it does, for ever if need be.
#[derive(Debug)]
pub(crate) struct Slabs(Arc<Depot>);

impl Slabs {
    /// Prepares for stacks. Nothing is mapped yet.
    ///
    /// # Errors
    /// [`StackError::EmbedderArea`] where the embedder wants too much.
    pub(crate) fn new(config: &SlabsConfig) -> Result<Self, StackError> {
        if config.embedder_bytes > StackError::MAX_EMBEDDER_AREA {
            return Err(StackError::EmbedderArea {
                requested: config.embedder_bytes,
            });
        }
        let guard = config.guard.unwrap_or_else(sys::best_guard);
        let max_guard_mappings = config.max_guard_mappings.unwrap_or(usize::MAX);
        Ok(Self(Arc::new(Depot::new(
            config.embedder_bytes as u32,
            guard,
            max_guard_mappings,
        ))))
    }

    /// Counts a stack that was forgotten along with the suspended fiber on it.
    pub(crate) fn note_leaked(&self) {
        self.0.note_leaked();
    }

    /// The count of stacks.
    pub(crate) fn stats(&self) -> StackStats {
        self.0.stats()
    }

    /// To be called about once a second while [`Slabs::keep_warm`]: ends an epoch of the stacks that no pool
    /// keeps, and that have their memory still. Some of those not needed in it are to be trimmed.
    pub(crate) fn end_epoch(&self) -> bool {
        self.0.end_epoch()
    }

    /// Gives memory of stacks back to the kernel for about 0.1 ms; true if there is more to be given.
    pub(crate) fn trim(&self) -> bool {
        self.0.trim()
    }

    /// Whether stacks are kept warm that no pool keeps.
    pub(crate) fn keep_warm(&self) -> bool {
        self.0.keeps_any()
    }

    pub(super) fn depot(&self) -> &Arc<Depot> {
        &self.0
    }
}

impl Drop for Slabs {
    fn drop(&mut self) {
        self.0.close();
    }
}
