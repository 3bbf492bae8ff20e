//! A file that lines are written to by a thread of its own, so that a slow disk, or a pipe that nobody reads, holds up no
//! request. What it cannot take is dropped, and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// So many bytes may wait for the thread.
const MOST: usize = 4 << 20;

pub(crate) struct LogFile {
    shared: Arc<Shared>,
    /// `None` for stderr.
    path: Option<String>,
}

struct Shared {
    state: Mutex<State>,
    /// Told when there is something for the thread to do and it waits.
    work: Condvar,
    lost: Lost,
}

/// How many lines were lost; for whoever wants to look, as long as he likes.
pub(crate) type Lost = Arc<AtomicU64>;

/// Under a lock that is held for a few instructions, and the copy of a line.
#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    /// The file to go on with.
    next: Option<File>,
    waits: bool,
    /// The thread has taken lines that it has not written yet.
    writes: bool,
    closed: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's life.
    fn run(&self, mut file: File) {
        let mut lines = Vec::new();
        loop {
            let mut state = self.state();
            state.writes = false;
            while state.buffer.is_empty() && state.next.is_none() {
                if state.closed {
                    return;
                }
                state.waits = true;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waits = false;
            }
            state.writes = true;
            std::mem::swap(&mut lines, &mut state.buffer);
            let next = state.next.take();
            drop(state);
            if let Some(next) = next {
                file = next;
            }
            if file.write_all(&lines).is_err() {
                // A full disk may have room later.
                let count = lines.iter().filter(|byte| **byte == b'\n').count();
                self.lost.fetch_add(count as u64, Relaxed);
            }
            lines.clear();
        }
    }
}

fn open(path: Option<&str>) -> io::Result<File> {
    match path {
        Some(path) => OpenOptions::new().append(true).create(true).open(path),
        None => Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?)),
    }
}

impl LogFile {
    /// Opens a file, or stderr, and starts the thread.
    pub(crate) fn open(path: Option<String>) -> io::Result<Self> {
        let file = open(path.as_deref())?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            lost: Lost::default(),
        });
        let theirs = shared.clone();
        std::thread::Builder::new()
            .name("roving-log".to_owned())
            .spawn(move || theirs.run(file))?;
        Ok(Self { shared, path })
    }

    /// Has a line written, soon.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.shared.state();
        if state.buffer.len() + line.len() > MOST {
            drop(state);
            self.shared.lost.fetch_add(1, Relaxed);
            return;
        }
        state.buffer.extend_from_slice(line);
        let waits = state.waits;
        drop(state);
        if waits {
            self.shared.work.notify_one();
        }
    }

    /// Goes on with a new file of the same name: the old one was moved away.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        if self.path.is_some() {
            let next = open(self.path.as_deref())?;
            self.shared.state().next = Some(next);
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Whether all lines have been written, and how many were lost.
    pub(crate) fn status(&self) -> (bool, u64) {
        let state = self.shared.state();
        let is_done = state.buffer.is_empty() && state.next.is_none() && !state.writes;
        (is_done, self.shared.lost.load(Relaxed))
    }

    /// How many lines were lost.
    pub(crate) fn lost(&self) -> Lost {
        self.shared.lost.clone()
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.work.notify_one();
    }
}
