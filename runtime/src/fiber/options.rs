//! What a spawner may ask for.

use crate::stack::StackClass;

/// Which queue work waits in. Background work runs when there is no normal work, and at least one
/// turn in sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Class {
    #[default]
    Normal,
    Background,
}

impl Class {
    pub(crate) const ALL: [Class; 2] = [Class::Normal, Class::Background];

    #[inline]
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// Options of one spawn.
#[derive(Debug, Clone, Default)]
pub(crate) struct FiberOptions {
    pub(crate) name: Option<Box<str>>,
    /// `None`: the runtime's default.
    pub(crate) stack: Option<StackClass>,
    pub(crate) class: Class,
    /// Start on the worker with the fewest live fibers, whatever the spawner's own worker does.
    pub(crate) spread: bool,
    /// Nobody waits for it.
    pub(crate) daemon: bool,
}
