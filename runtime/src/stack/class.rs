//! The sizes in which stacks are handed out.

use super::StackError;

/// One of the sizes a stack can have: a power of two from 128 KiB to 8 MiB, of address space. Memory is
/// only spent on the pages that are touched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StackClass(u8);

impl StackClass {
    /// The size of the smallest class.
    pub(crate) const MIN_SIZE: usize = 128 << 10;
    /// The size of the largest class.
    pub(crate) const MAX_SIZE: usize = 8 << 20;
    /// How many classes there are.
    pub(crate) const COUNT: usize = (Self::MAX_SIZE / Self::MIN_SIZE).ilog2() as usize + 1;
    /// 512 KiB.
    pub(crate) const DEFAULT: Self = Self(2);

    /// The smallest class of at least `bytes`.
    ///
    /// # Errors
    /// [`StackError::Size`] for zero and for more than [`StackClass::MAX_SIZE`].
    pub(crate) fn for_size(bytes: usize) -> Result<Self, StackError> {
        if bytes == 0 || bytes > Self::MAX_SIZE {
            return Err(StackError::Size { requested: bytes });
        }
        let times = bytes.div_ceil(Self::MIN_SIZE).next_power_of_two();
        Ok(Self(times.ilog2() as u8))
    }

    /// All classes, the smallest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// The size of a slot of this class, guard included.
    #[inline]
    pub(crate) const fn size(self) -> usize {
        Self::MIN_SIZE << self.0
    }

    /// This class's place in a table of all classes.
    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// How many bytes at the low end of a slot are guard: 1/32 of it, at most 64 KiB, whole pages.
    ///
    /// More than one page where it can be afforded, since C code built without stack probes may step
    /// over a single page with one frame (16 KiB at the default size; a guard costs address space only).
    pub(crate) const fn guard_len(self, page: usize) -> usize {
        let wanted = self.size() / 32;
        let capped = if wanted > 64 << 10 { 64 << 10 } else { wanted };
        capped.next_multiple_of(page)
    }
}

impl Default for StackClass {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl std::fmt::Debug for StackClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StackClass({} KiB)", self.size() >> 10)
    }
}
