//! What is said when a fiber overflows its stack.
//!
//! A guard page turns an overflow into SIGSEGV (SIGBUS on some systems). Our handler, on a signal stack of
//! the worker's own, looks the address up among the slabs of the process; where it is a guard, and the
//! stack pointer is near it, the handler names the fiber on stderr and aborts. Any other signal goes to
//! whoever handled it before us, as if we were not there. After std's `sys/pal/unix/stack_overflow.rs`,
//! which knows threads only and does not chain.

mod alt_stack;
mod message;

pub(crate) use alt_stack::AltStack;
pub(crate) use message::MessageBuffer;

use super::registry::{self, Span};
use super::{StackError, sys};
use crate::loom::sync::atomic::{AtomicBool, Ordering};
use crate::loom::sync::{Mutex, OnceLock};
use libc::{c_int, c_void, siginfo_t};

/// Says which fiber runs on the calling thread, as in `42 "resize-image"`; writes nothing if none does.
///
/// Called in a signal handler, on a small stack, while the fiber is in the middle of anything: it must not
/// lock, allocate, panic, or touch a thread local that was not touched on this thread before (in a shared
/// library the first touch allocates). Reading `const` thread locals and plain memory is fine.
pub(crate) type Describe = fn(&mut MessageBuffer);

/// The handlers there were before ours, in the order of [`SIGNALS`].
static PREVIOUS: OnceLock<[Previous; SIGNALS.len()]> = OnceLock::new();
static DESCRIBE: OnceLock<Describe> = OnceLock::new();

const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Tells the report how to name fibers. The first call counts.
pub(crate) fn set_describe(describe: Describe) {
    let _ = DESCRIBE.set(describe);
}

/// Installs the handler, once per process, for all threads. A thread whose fibers are to be reported needs an
/// [`AltStack`] as well.
///
/// # Errors
/// [`StackError::Signals`] where the system refuses.
pub(crate) fn install() -> Result<(), StackError> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock();
    if *installed {
        return Ok(());
    }
    // Read all before changing any: from the first change on, the handler may need them.
    let [segv, bus] = SIGNALS;
    let previous = [Previous::read(segv)?, Previous::read(bus)?];
    let previous = PREVIOUS.get_or_init(|| previous);
    for (&signal, previous) in SIGNALS.iter().zip(previous) {
        // What the previous handler asked for while it runs, it gets while it runs under us.
        let mut ours = previous.action;
        ours.sa_sigaction = handle as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | (previous.action.sa_flags & libc::SA_NODEFER);
        // SAFETY: a valid action whose handler keeps to what signal handlers may do.
        if unsafe { libc::sigaction(signal, &ours, std::ptr::null_mut()) } != 0 {
            return Err(StackError::Signals { errno: sys::errno() });
        }
    }
    *installed = true;
    Ok(())
}

struct Previous {
    action: libc::sigaction,
    /// `SA_RESETHAND`: it wanted to be called once.
    spent: AtomicBool,
}

impl Previous {
    fn read(signal: c_int) -> Result<Self, StackError> {
        // SAFETY: all zeroes is a valid action, the default one.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: only reads the current action into a live value.
        if unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) } != 0 {
            return Err(StackError::Signals { errno: sys::errno() });
        }
        Ok(Self {
            action,
            spent: AtomicBool::new(false),
        })
    }
}

/// The handler. Async-signal-safe throughout: loads, stores, `write`, `sigaction`, `raise`, `abort`.
///
/// # Safety
/// For the kernel to call, with a valid `info` and `context`.
unsafe extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands every SA_SIGINFO handler a valid one.
    let details = unsafe { &*info };
    // By `kill`, `raise` and the like: there is no address.
    let sent = details.si_code <= 0;
    if !sent {
        // SAFETY: a fault has an address.
        let address = unsafe { details.si_addr() }.addr();
        if let Some((span, guard)) = registry::find_guard(address)
            // SAFETY: the kernel hands every SA_SIGINFO handler a valid one.
            && unsafe { stack_pointer(context) }.is_none_or(|sp| is_near(sp, guard, span))
        {
            report(span, guard);
        }
    }
    // SAFETY: our own arguments.
    unsafe { chain(signal, sent, info, context) };
}

/// Whether a stack pointer belongs to the stack above a guard, or has just run off it. A stray pointer
/// that happens to hit a guard is not that fiber's overflow.
fn is_near(sp: usize, guard: usize, span: Span) -> bool {
    sp.wrapping_sub(guard.wrapping_sub(span.slot_size)) < 2 * span.slot_size
}

/// The stack pointer of the interrupted code, where we know how to find it.
///
/// # Safety
/// `context` must come from the kernel.
unsafe fn stack_pointer(context: *mut c_void) -> Option<usize> {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    {
        let context = context.cast::<libc::ucontext_t>();
        // SAFETY: the caller's promise.
        Some(unsafe { (*context).uc_mcontext.gregs[libc::REG_RSP as usize] } as usize)
    }
    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    {
        let context = context.cast::<libc::ucontext_t>();
        // SAFETY: the caller's promise.
        Some(unsafe { (*context).uc_mcontext.sp } as usize)
    }
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        let _ = context;
        None
    }
}

fn report(span: Span, guard: usize) -> ! {
    let mut message = MessageBuffer::new();
    message.push_str("roving: fiber ");
    let before = message.len();
    if let Some(describe) = DESCRIBE.get() {
        describe(&mut message);
    }
    if message.len() == before {
        message.clear();
        message.push_str("roving: a fiber");
    }
    message.push_str(" overflowed its stack of ");
    message.push_size(span.slot_size);
    message.push_str(" (guard page at ");
    message.push_hex(guard);
    message.push_str("). Spawn it with a larger stack_size.\n");
    message.write_to_stderr();
    // SAFETY: abort may be called at any time, in signal handlers too.
    unsafe { libc::abort() }
}

/// Does what would have happened without us.
///
/// # Safety
/// Must be called by the handler, with its own arguments.
unsafe fn chain(signal: c_int, sent: bool, info: *mut siginfo_t, context: *mut c_void) {
    let index = usize::from(signal == libc::SIGBUS);
    let previous = PREVIOUS.get().map(|all| &all[index]);
    let handler = previous.map_or(libc::SIG_DFL, |previous| previous.action.sa_sigaction);
    let flags = previous.map_or(0, |previous| previous.action.sa_flags);
    let once = flags & libc::SA_RESETHAND != 0;
    let spent = once && previous.is_some_and(|previous| previous.spent.swap(true, Ordering::Relaxed));
    match handler {
        // The kernel kills whoever ignores a fault of its own: it could not go on.
        libc::SIG_IGN if sent => {}
        libc::SIG_DFL | libc::SIG_IGN => die_of(signal, sent),
        _ if spent => die_of(signal, sent),
        _ if flags & libc::SA_SIGINFO != 0 => {
            let handler = std::ptr::with_exposed_provenance::<()>(handler);
            // SAFETY: installed by somebody as a handler with SA_SIGINFO, so it has this signature.
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        _ => {
            let handler = std::ptr::with_exposed_provenance::<()>(handler);
            // SAFETY: installed by somebody as a handler without SA_SIGINFO, so it has this signature.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}

/// Lets the default action have the signal once the handler has returned: the fault happens again, and one
/// that was sent is sent again.
fn die_of(signal: c_int, sent: bool) {
    // SAFETY: all zeroes is a valid action, the default one.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the default action is valid for this signal.
    unsafe { libc::sigaction(signal, &default, std::ptr::null_mut()) };
    if sent {
        // SAFETY: raising has no preconditions; the signal waits until the handler has returned.
        unsafe { libc::raise(signal) };
    }
}
