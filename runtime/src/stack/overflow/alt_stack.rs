//! The stack that a worker's signal handlers run on.

use super::super::sys::{self, GuardKind};
use super::StackError;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// What a handler may use, besides what the kernel puts on the stack (some KiB of vector registers): ours
/// needs 2 KiB; a previous one, std's or faulthandler's, wants the rest.
const HANDLER_NEEDS: usize = 16 << 10;

/// What a stack of ours offers.
const SIZE: usize = 64 << 10;

/// A signal stack for the calling thread, as long as it lives. One that the thread has already is kept
/// where it is large enough; otherwise it comes back afterwards.
#[derive(Debug)]
pub(crate) struct AltStack {
    /// Ours and the previous one; none where the previous one is kept.
    installed: Option<Installed>,
    /// It is of one thread.
    not_send: PhantomData<*mut ()>,
}

#[derive(Debug)]
struct Installed {
    mapping: NonNull<u8>,
    len: usize,
    previous: libc::stack_t,
}

impl AltStack {
    /// Makes sure that the calling thread has a signal stack.
    ///
    /// # Errors
    /// [`StackError::AddressSpace`] or [`StackError::Signals`] where the system refuses.
    pub(crate) fn install() -> Result<Self, StackError> {
        let refused = |_| StackError::Signals { errno: sys::errno() };
        let current = swap(None).map_err(refused)?;
        let kernel_needs = kernel_needs();
        if current.ss_flags & libc::SS_DISABLE == 0 && current.ss_size >= kernel_needs + HANDLER_NEEDS {
            return Ok(Self {
                installed: None,
                not_send: PhantomData,
            });
        }
        let page = sys::page_size();
        let size = (SIZE + kernel_needs).next_multiple_of(page);
        let len = page + size;
        let mapping = sys::map(len).map_err(|errno| StackError::AddressSpace { bytes: len, errno })?;
        // Without a guard it would still do.
        // SAFETY: the lowest page of a mapping of our own, used for nothing else.
        let _ = unsafe { sys::guard(GuardKind::Mprotect, mapping, page) };
        let ours = libc::stack_t {
            ss_sp: sys::advance(mapping, page).as_ptr().cast(),
            ss_flags: 0,
            ss_size: size,
        };
        match swap(Some(&ours)) {
            Ok(previous) => Ok(Self {
                installed: Some(Installed {
                    mapping,
                    len,
                    previous,
                }),
                not_send: PhantomData,
            }),
            Err(()) => {
                let error = StackError::Signals { errno: sys::errno() };
                // SAFETY: mapped above, and the kernel has refused to use it.
                let _ = unsafe { sys::unmap(mapping, len) };
                Err(error)
            }
        }
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        let Some(Installed {
            mapping,
            len,
            previous,
        }) = self.installed.take()
        else {
            return;
        };
        let ours = sys::advance(mapping, sys::page_size());
        let Ok(current) = swap(None) else { return };
        // Somebody may have put another one in its place; then the kernel has no use for ours any more.
        if current.ss_sp == ours.as_ptr().cast() && swap(Some(&previous)).is_err() {
            return;
        }
        // SAFETY: mapped by us, and no signal of this thread, the only one to use it, is handled on it:
        // code that runs on it cannot drop this value, and the kernel has just forgotten it.
        let _ = unsafe { sys::unmap(mapping, len) };
    }
}

/// Reads the calling thread's signal stack, and replaces it where a new one is given.
fn swap(new: Option<&libc::stack_t>) -> Result<libc::stack_t, ()> {
    let mut old = libc::stack_t {
        ss_sp: std::ptr::null_mut(),
        ss_flags: 0,
        ss_size: 0,
    };
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `new` is null, or memory that stays ours until it is replaced; `old` is live.
    if unsafe { libc::sigaltstack(new, &mut old) } == 0 {
        Ok(old)
    } else {
        Err(())
    }
}

/// How much the kernel itself wants of a signal stack.
fn kernel_needs() -> usize {
    #[cfg(target_os = "linux")]
    // SAFETY: getauxval has no preconditions.
    let told = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    #[cfg(not(target_os = "linux"))]
    let told = 0;
    told.max(libc::MINSIGSTKSZ)
}
