//! The system calls this room makes, each behind a function that says what it must be given.

use crate::loom::sync::OnceLock;
use std::ptr::NonNull;

/// Slabs start at multiples of this: what one page-table page covers on 4 KiB pages, so that the guard
/// and the top of a stack of up to 2 MiB share one.
pub(super) const SLAB_ALIGN: usize = 2 << 20;

/// `MADV_GUARD_INSTALL` of Linux 6.13; the libc crate does not name it yet.
#[cfg(target_os = "linux")]
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// How the pages below a stack are made to fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuardKind {
    /// `madvise(MADV_GUARD_INSTALL)`: a mark in the page table, no mapping of its own. Linux 6.13+.
    Lightweight,
    /// `mprotect(PROT_NONE)`: splits the slab's mapping, two mappings a stack.
    Mprotect,
}

/// A mapped range, and where in it the aligned part starts.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    first: NonNull<u8>,
}

// SAFETY: a mapping is the process's, not a thread's; the value is its only owner.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes of zeroes, aligned to [`SLAB_ALIGN`], without reserving memory for them.
    pub(super) fn new(len: usize) -> Result<Self, i32> {
        // Slabs are multiples of the alignment and the kernel places mappings side by side, so once one
        // of them is aligned the next one usually is, at no cost.
        let plain = map(len)?;
        if plain.addr().get().is_multiple_of(SLAB_ALIGN) {
            return Ok(Self {
                start: plain,
                len,
                first: plain,
            }
            .without_huge_pages());
        }
        // SAFETY: mapped just now, nobody else knows of it.
        let _ = unsafe { unmap(plain, len) };
        let total = len + SLAB_ALIGN;
        let start = map(total)?;
        let first = advance(
            start,
            start.addr().get().next_multiple_of(SLAB_ALIGN) - start.addr().get(),
        );
        let head = first.addr().get() - start.addr().get();
        let mut mapping = Self {
            start,
            len: total,
            first,
        };
        // Where the kernel refuses (the range had been merged with a neighbour and may not be split any
        // more), the surplus stays part of the mapping.
        // SAFETY: the part before `first` is of no use to anybody.
        if head > 0 && unsafe { unmap(start, head) }.is_ok() {
            mapping = Self {
                start: first,
                len: total - head,
                first,
            };
        }
        let tail = mapping.start.addr().get() + mapping.len - (first.addr().get() + len);
        let end = advance(first, len);
        // SAFETY: the part after `len` bytes from `first` is of no use to anybody.
        if tail > 0 && unsafe { unmap(end, tail) }.is_ok() {
            mapping.len -= tail;
        }
        Ok(mapping.without_huge_pages())
    }

    /// The aligned start of the usable part.
    pub(super) fn first(&self) -> NonNull<u8> {
        self.first
    }

    /// How many bytes are mapped in all.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One touched page must not become 2 MiB of memory. `MAP_STACK` means the same from Linux 6.7 on; a
    /// kernel without huge pages refuses and is right to.
    fn without_huge_pages(self) -> Self {
        #[cfg(target_os = "linux")]
        // SAFETY: advice on a mapping of our own that changes no content.
        unsafe {
            libc::madvise(self.start.as_ptr().cast(), self.len, libc::MADV_NOHUGEPAGE);
        }
        self
    }

    /// Gives the range back to the kernel, or hands the mapping back with the reason.
    ///
    /// # Safety
    /// Nobody may use any address in it any more.
    pub(super) unsafe fn unmap(self) -> Result<(), (Self, i32)> {
        // SAFETY: the caller's promise.
        unsafe { unmap(self.start, self.len) }.map_err(|errno| (self, errno))
    }
}

/// `start` moved up by `bytes` within its mapping, or to its end.
#[inline]
pub(super) fn advance(start: NonNull<u8>, bytes: usize) -> NonNull<u8> {
    start.map_addr(|addr| addr.checked_add(bytes).expect("a mapping does not wrap around"))
}

/// The size of a page.
pub(super) fn page_size() -> usize {
    static PAGE: OnceLock<usize> = OnceLock::new();
    *PAGE.get_or_init(|| {
        // SAFETY: sysconf has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(page).expect("the system has a page size")
    })
}

/// The calling thread's last system error.
pub(super) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Maps fresh memory at an address of the kernel's choice.
pub(super) fn map(len: usize) -> Result<NonNull<u8>, i32> {
    #[cfg(test)]
    fault::check(fault::Call::Map)?;
    #[cfg(target_os = "linux")]
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
    #[cfg(not(target_os = "linux"))]
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing that exists.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(errno());
    }
    Ok(NonNull::new(start.cast()).expect("mmap never places at zero of its own accord"))
}

/// Unmaps whole pages.
///
/// # Safety
/// The range must be mapped, and nobody may use it any more.
pub(super) unsafe fn unmap(start: NonNull<u8>, len: usize) -> Result<(), i32> {
    #[cfg(test)]
    fault::check(fault::Call::Unmap)?;
    // SAFETY: the caller's promise.
    check(unsafe { libc::munmap(start.as_ptr().cast(), len) })
}

/// Makes any access to whole pages fault.
///
/// # Safety
/// The range must be mapped, and nobody may use it any more.
pub(super) unsafe fn guard(kind: GuardKind, start: NonNull<u8>, len: usize) -> Result<(), i32> {
    #[cfg(test)]
    fault::check(fault::Call::Guard)?;
    let start = start.as_ptr().cast();
    let result = match kind {
        #[cfg(target_os = "linux")]
        // SAFETY: the caller's promise.
        GuardKind::Lightweight => unsafe { libc::madvise(start, len, MADV_GUARD_INSTALL) },
        #[cfg(not(target_os = "linux"))]
        GuardKind::Lightweight => return Err(libc::EINVAL),
        // SAFETY: the caller's promise.
        GuardKind::Mprotect => unsafe { libc::mprotect(start, len, libc::PROT_NONE) },
    };
    check(result)
}

/// Gives the memory behind whole pages back; they read as zero afterwards. Guards stay.
///
/// # Safety
/// The range must be mapped, private and anonymous, and its content of no interest to anybody.
pub(super) unsafe fn discard(start: NonNull<u8>, len: usize) {
    // It fails for pages that are locked in memory (`mlockall`) only: these then keep it.
    // SAFETY: the caller's promise.
    unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTNEED) };
}

/// The guard this kernel can do, found out once by trying.
pub(super) fn best_guard() -> GuardKind {
    static BEST: OnceLock<GuardKind> = OnceLock::new();
    *BEST.get_or_init(|| {
        let page = page_size();
        let Ok(probe) = map(page) else {
            return GuardKind::Mprotect;
        };
        // SAFETY: a page of our own, used for nothing else.
        let works = unsafe { guard(GuardKind::Lightweight, probe, page) }.is_ok();
        // SAFETY: as above, and we are done with it.
        let _ = unsafe { unmap(probe, page) };
        if works {
            GuardKind::Lightweight
        } else {
            GuardKind::Mprotect
        }
    })
}

/// How many mappings this process may have, read once.
pub(super) fn max_map_count() -> usize {
    static MAX: OnceLock<usize> = OnceLock::new();
    *MAX.get_or_init(|| {
        if cfg!(not(target_os = "linux")) {
            return usize::MAX;
        }
        // The kernel's default, where /proc is not mounted.
        const DEFAULT: usize = 65_530;
        let text = std::fs::read_to_string("/proc/sys/vm/max_map_count");
        text.ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(DEFAULT)
    })
}

fn check(result: libc::c_int) -> Result<(), i32> {
    if result == 0 { Ok(()) } else { Err(errno()) }
}

/// Makes the next calls of one kind fail, on the calling thread only.
#[cfg(test)]
pub(super) mod fault {
    use std::cell::Cell;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Call {
        Map,
        Unmap,
        Guard,
    }

    thread_local! {
        static PLAN: Cell<Option<(Call, usize, usize, i32)>> = const { Cell::new(None) };
    }

    /// Lets `skip` calls pass and fails the `count` after them.
    pub(crate) fn plan(call: Call, skip: usize, count: usize, errno: i32) {
        PLAN.set(Some((call, skip, count, errno)));
    }

    pub(crate) fn clear() {
        PLAN.set(None);
    }

    pub(crate) fn check(call: Call) -> Result<(), i32> {
        match PLAN.get() {
            Some((planned, 0, count, errno)) if planned == call && count > 0 => {
                PLAN.set(Some((planned, 0, count - 1, errno)));
                Err(errno)
            }
            Some((planned, skip, count, errno)) if planned == call && skip > 0 => {
                PLAN.set(Some((planned, skip - 1, count, errno)));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
