//! Settings of a runtime.

use super::lifecycle::Runtime;
use crate::scheduler::{Hooks, NoHooks};
use crate::stack::{StackClass, StackError};
use std::time::Duration;

/// What dropping a [`Runtime`] does with fibers that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropPolicy {
    /// Wait until every fiber has ended.
    Drain,
    /// Cancel every fiber, wait this long, then abandon those that still have not ended: what is on
    /// their stacks is leaked, never dropped.
    Abandon(Duration),
}

/// Why no runtime could be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The worker count is zero or above [`Builder::MAX_WORKERS`].
    Workers {
        /// The count that was asked for.
        asked: usize,
    },
    /// `ROVING_WORKERS` does not hold a worker count.
    WorkersVariable {
        /// What it holds.
        value: String,
    },
    /// A stack size or embedder area out of range, or the system refused the overflow report.
    Stack(StackError),
    /// The system refused a poll, a descriptor or a thread.
    System(std::io::Error),
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let max = Builder::<NoHooks>::MAX_WORKERS;
        match self {
            BuildError::Workers { asked } => {
                write!(
                    f,
                    "a runtime has 1 to {max} workers, not {asked}: ask for as many as there are cores"
                )
            }
            BuildError::WorkersVariable { value } => {
                write!(
                    f,
                    "ROVING_WORKERS is {value:?}: it must be a number from 1 to {max}, or unset"
                )
            }
            BuildError::Stack(error) => error.fmt(f),
            BuildError::System(error) => write!(f, "the system refused what a worker needs: {error}"),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BuildError::Stack(error) => Some(error),
            BuildError::System(error) => Some(error),
            BuildError::Workers { .. } | BuildError::WorkersVariable { .. } => None,
        }
    }
}

/// Settings of a [`Runtime`].
///
/// ```
/// use roving_runtime::Runtime;
///
/// let runtime = Runtime::builder().workers(2).stack_size(256 << 10).build()?;
/// assert_eq!(runtime.spawn(|| 6 * 7).join()?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing before `build`"]
pub struct Builder<H: Hooks = NoHooks> {
    pub(super) workers: Option<usize>,
    pub(super) stack_size: usize,
    pub(super) embedder_area: usize,
    pub(super) thread_name: String,
    pub(super) on_drop: DropPolicy,
    pub(super) blocking_threads: usize,
    pub(super) long_turn: Duration,
    pub(super) max_spares: usize,
    pub(super) seed: Option<u64>,
    pub(super) hooks: H,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            workers: None,
            stack_size: StackClass::DEFAULT.size(),
            embedder_area: 0,
            thread_name: "roving".to_owned(),
            on_drop: DropPolicy::Drain,
            blocking_threads: 512,
            long_turn: Duration::from_millis(10),
            max_spares: 64,
            seed: None,
            hooks: NoHooks,
        }
    }
}

impl<H: Hooks> Builder<H> {
    /// The largest worker count.
    pub const MAX_WORKERS: usize = 1024;

    /// How many workers; by default `ROVING_WORKERS`, or else the processors this process may use (its
    /// affinity and its cgroup's quota counted).
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The default size of a fiber's stack in bytes of address space, rounded up to a power of two from
    /// 128 KiB to 8 MiB; 512 KiB unless set. Memory is only spent on pages that are touched.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = bytes;
        self
    }

    /// How many bytes at the top of every stack belong to the embedder's hooks; none unless set.
    pub fn embedder_area(mut self, bytes: usize) -> Self {
        self.embedder_area = bytes;
        self
    }

    /// What worker threads are called, before their number.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// What dropping the runtime does; [`DropPolicy::Drain`] unless set.
    pub fn on_drop(mut self, policy: DropPolicy) -> Self {
        self.on_drop = policy;
        self
    }

    /// The largest number of threads of the blocking pool, at least one; 512 unless set.
    pub fn blocking_threads(mut self, threads: usize) -> Self {
        self.blocking_threads = threads.max(1);
        self
    }

    /// A worker that has been in one turn (a fiber that has not suspended itself, a poll that has not returned)
    /// for this long counts as stuck: new work goes to others, which also take what it was given. 10 ms unless
    /// set. A started fiber waits for its worker however long it takes.
    pub fn long_turn(mut self, duration: Duration) -> Self {
        self.long_turn = duration;
        self
    }

    /// The largest number of spare workers, which take the place of workers that sit in blocking calls; 64 unless
    /// set, none with 0. A fiber that has started waits for its own worker all the same.
    pub fn max_spares(mut self, spares: usize) -> Self {
        self.max_spares = spares.min(Self::MAX_WORKERS);
        self
    }

    /// Has every turn drawn at random from all fibers that could have it, by a generator that begins with `seed`: for tests.
    /// The same seed gives the same order of all that the fibers do, as long as nothing comes from outside: other threads,
    /// descriptors, and the system's time (`Handle::stop_clock`). There is one worker, whatever [`Builder::workers`] says, and no
    /// spare; priorities, fairness and placement do not count.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// let order = |seed| {
    ///     let runtime = roving_runtime::Runtime::builder().seed(seed).build().expect("a runtime");
    ///     let order = Arc::new(Mutex::new(Vec::new()));
    ///     let theirs = order.clone();
    ///     let all = runtime.spawn(move || {
    ///         let spawn = |number| {
    ///             let order = theirs.clone();
    ///             roving_runtime::spawn(move || order.lock().expect("nobody panics").push(number))
    ///         };
    ///         let children: Vec<_> = (0..8).map(spawn).collect();
    ///         children.into_iter().for_each(|child| child.join().expect("it just pushes"));
    ///     });
    ///     all.join().expect("it just joins");
    ///     std::mem::take(&mut *order.lock().expect("nobody panics"))
    /// };
    /// assert_eq!(order(1), order(1));
    /// assert_ne!(order(1), order(2));
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets the embedder's hooks.
    pub fn hooks<G: Hooks>(self, hooks: G) -> Builder<G> {
        let Self {
            workers,
            stack_size,
            embedder_area,
            thread_name,
            on_drop,
            blocking_threads,
            long_turn,
            max_spares,
            seed,
            hooks: _,
        } = self;
        Builder {
            workers,
            stack_size,
            embedder_area,
            thread_name,
            on_drop,
            blocking_threads,
            long_turn,
            max_spares,
            seed,
            hooks,
        }
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// See [`BuildError`]; nothing is left running.
    pub fn build(self) -> Result<Runtime, BuildError> {
        Runtime::start(self)
    }

    pub(super) fn worker_count(&self) -> Result<usize, BuildError> {
        if self.seed.is_some() {
            return Ok(1);
        }
        let workers = match self.workers {
            Some(workers) => workers,
            None => match std::env::var("ROVING_WORKERS") {
                Ok(value) => value
                    .parse()
                    .ok()
                    .filter(|workers| (1..=Self::MAX_WORKERS).contains(workers))
                    .ok_or(BuildError::WorkersVariable { value })?,
                Err(std::env::VarError::NotPresent) => std::thread::available_parallelism()
                    .map_or(1, usize::from)
                    .min(Self::MAX_WORKERS),
                Err(std::env::VarError::NotUnicode(value)) => {
                    return Err(BuildError::WorkersVariable {
                        value: value.to_string_lossy().into_owned(),
                    });
                }
            },
        };
        if !(1..=Self::MAX_WORKERS).contains(&workers) {
            return Err(BuildError::Workers { asked: workers });
        }
        Ok(workers)
    }
}
