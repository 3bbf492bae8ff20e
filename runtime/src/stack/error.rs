//! What can go wrong when a stack is asked for.

use super::StackClass;
use std::fmt;

/// Why no stack could be had. Nothing is lost by it: what was reserved half-way has been given back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StackError {
    /// A stack size of zero or beyond the largest class.
    Size {
        /// The size that was asked for, in bytes.
        requested: usize,
    },
    /// The embedder wants more room in every stack than a quarter of the smallest one.
    EmbedderArea {
        /// The size that was asked for, in bytes.
        requested: usize,
    },
    /// Guards cost two mappings a stack on this kernel, and the process has no more to spare.
    MapLimit {
        /// Mappings that stacks of this process use, or would use with one more stack.
        used: usize,
        /// The system's `vm.max_map_count`.
        limit: usize,
    },
    /// The kernel refused address space.
    AddressSpace {
        /// How many bytes were asked for.
        bytes: usize,
        /// The operating system's error code.
        errno: i32,
    },
    /// The kernel refused to install a guard.
    Guard {
        /// The operating system's error code.
        errno: i32,
    },
    /// The kernel refused a signal stack or a signal handler for the overflow report.
    Signals {
        /// The operating system's error code.
        errno: i32,
    },
}

impl StackError {
    /// The largest embedder area allowed.
    pub(crate) const MAX_EMBEDDER_AREA: usize = StackClass::MIN_SIZE / 4;

    /// The operating system's error behind this one, if there is one.
    pub fn errno(&self) -> Option<i32> {
        match *self {
            Self::AddressSpace { errno, .. } | Self::Guard { errno } | Self::Signals { errno } => Some(errno),
            Self::Size { .. } | Self::EmbedderArea { .. } | Self::MapLimit { .. } => None,
        }
    }
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let system = |errno: i32| std::io::Error::from_raw_os_error(errno);
        match *self {
            Self::Size { requested } => write!(
                f,
                "a stack size of {requested} bytes is not possible: it must be from 1 to {} bytes, and is rounded \
                 up to a power of two of at least {} bytes",
                StackClass::MAX_SIZE,
                StackClass::MIN_SIZE,
            ),
            Self::EmbedderArea { requested } => write!(
                f,
                "an embedder area of {requested} bytes is not possible: it must be from 0 to {} bytes, a quarter \
                 of the smallest stack",
                Self::MAX_EMBEDDER_AREA,
            ),
            Self::MapLimit { used, limit } => write!(
                f,
                "no mappings left for another stack's guard page: stacks use {used} of the {limit} that \
                 vm.max_map_count allows this process, and the rest is kept for everything else. Raise it with \
                 `sysctl -w vm.max_map_count=1048576`, or run Linux 6.13 or newer, where guards need no mappings",
            ),
            Self::AddressSpace { bytes, errno } => write!(
                f,
                "no address space for stacks: mapping {bytes} bytes failed: {} (look at `ulimit -v`, \
                 vm.overcommit_memory and vm.max_map_count)",
                system(errno),
            ),
            Self::Guard { errno } => {
                write!(
                    f,
                    "no guard page could be installed below a new stack: {}",
                    system(errno)
                )
            }
            Self::Signals { errno } => {
                write!(
                    f,
                    "the stack overflow report could not be installed: {}",
                    system(errno)
                )
            }
        }
    }
}

impl std::error::Error for StackError {}
