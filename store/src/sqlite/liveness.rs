//! Who is alive. Each worker holds a lock on one byte, at the offset of its id, of a file next to the database, for as
//! long as it lives; the kernel gives it back at the process's end, whatever end that is. Ids are never given twice, so
//! that a byte that is free belongs to a worker that is dead, or that never was.
//!
//! The locks are those of open file descriptions (`F_OFD_SETLK`): a process's own would go when any descriptor of the
//! file is closed anywhere in it. What they bring along is that a forked child shares them: a child that outlives its
//! parent would keep it alive. So every child closes its copies of the descriptors, in a handler of `pthread_atfork`;
//! what is executed anew loses them by O_CLOEXEC.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::error::Error;
use crate::job::WorkerId;

/// The descriptors that a forked child closes. -1: none.
static DESCRIPTORS: [AtomicI32; 64] = [const { AtomicI32::new(-1) }; 64];

/// The lock file, as one store has it open.
pub(super) struct Liveness {
    file: File,
    path: PathBuf,
}

impl Liveness {
    pub(super) fn open(database: &Path) -> Result<Self, Error> {
        let mut name = database.file_name().unwrap_or_default().to_owned();
        name.push("-workers");
        let path = database.with_file_name(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_CLOEXEC)
            .open(&path)
            .map_err(|error| Error::Open(format!("{}: {error}", path.display())))?;
        forget_in_children(&file)?;
        Ok(Liveness { file, path })
    }

    /// Whether the path still names the file that is open here. Should somebody delete it, the locks in it are worth
    /// nothing to processes that come later, and workers have to register in the new one.
    pub(super) fn in_place(&self) -> bool {
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(ours), Ok(there)) => ours.dev() == there.dev() && ours.ino() == there.ino(),
            _ => false,
        }
    }

    fn lock_byte(
        &self,
        worker: WorkerId,
        kind: libc::c_int,
        command: libc::c_int,
    ) -> std::io::Result<libc::flock> {
        // SAFETY: a flock of zeros is one.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        lock.l_start = worker.0;
        lock.l_len = 1;
        // SAFETY: the descriptor is open as long as the file, and the lock is ours.
        let outcome = unsafe { libc::fcntl(self.file.as_raw_fd(), command, &raw mut lock) };
        if outcome < 0 {
            Err(std::io::Error::last_os_error())
        } else {
            Ok(lock)
        }
    }

    /// Takes the lock of a new worker; false if another has it.
    pub(super) fn hold(&self, worker: WorkerId) -> Result<bool, Error> {
        match self.lock_byte(worker, libc::F_WRLCK, libc::F_OFD_SETLK) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(error) => Err(Error::Io(format!(
                "{}: lock of worker {}: {error}",
                self.path.display(),
                worker.0
            ))),
        }
    }

    /// Gives the lock of a worker back.
    pub(super) fn release(&self, worker: WorkerId) {
        // Failing, it is given back with the file.
        let _ = self.lock_byte(worker, libc::F_UNLCK, libc::F_OFD_SETLK);
    }

    /// Whether nobody holds this worker's lock. Not for workers of our own: one's own locks do not show.
    pub(super) fn is_dead(&self, worker: WorkerId) -> bool {
        // Failing, it is taken to be alive: whoever is given up wrongly runs its jobs twice.
        self.lock_byte(worker, libc::F_WRLCK, libc::F_OFD_GETLK)
            .is_ok_and(|lock| lock.l_type == libc::F_UNLCK as libc::c_short)
    }
}

impl Drop for Liveness {
    fn drop(&mut self) {
        let ours = self.file.as_raw_fd();
        for slot in &DESCRIPTORS {
            if slot
                .compare_exchange(ours, -1, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            {
                break;
            }
        }
    }
}

fn forget_in_children(file: &File) -> Result<(), Error> {
    extern "C" fn close_all() {
        for slot in &DESCRIPTORS {
            let descriptor = slot.swap(-1, Ordering::Relaxed);
            if descriptor >= 0 {
                // SAFETY: close is async-signal-safe. The child's `File` of this number would close it once more; but a
                // store in a forked child refuses its calls, and is leaked (see `SqliteStore`'s drop).
                unsafe { libc::close(descriptor) };
            }
        }
    }
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // SAFETY: the handler is a function for ever, and calls nothing but close.
        unsafe { libc::pthread_atfork(None, None, Some(close_all)) };
    });
    let ours = file.as_raw_fd();
    let kept = DESCRIPTORS.iter().any(|slot| {
        slot.compare_exchange(-1, ours, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    });
    if kept {
        Ok(())
    } else {
        Err(Error::Open("a process may have 64 job stores open".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_shows_to_others_until_it_is_given_back() {
        let folder = std::env::temp_dir().join(format!("roving-store-liveness-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (one, other) = (
            Liveness::open(&folder.join("db")).unwrap(),
            Liveness::open(&folder.join("db")).unwrap(),
        );
        assert!(one.hold(WorkerId(7)).unwrap());
        assert!(!other.is_dead(WorkerId(7)) && other.is_dead(WorkerId(8)));
        assert!(!other.hold(WorkerId(7)).unwrap());
        one.release(WorkerId(7));
        assert!(other.is_dead(WorkerId(7)));
        assert!(one.hold(WorkerId(9)).unwrap());
        drop(one);
        assert!(other.is_dead(WorkerId(9)) && other.in_place());
        std::fs::remove_file(folder.join("db-workers")).unwrap();
        assert!(!other.in_place());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
