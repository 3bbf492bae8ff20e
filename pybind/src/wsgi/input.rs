//! `wsgi.input`: a request's body, read as it comes.
//!
//! What has come and was not read yet stands in `unread`. A read first waits until there is enough, and then takes it: one
//! that is cancelled, or times out, has lost nothing.

use crate::wait::{self, Step, Target, Why};
use bytes::{Buf, Bytes};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use roving_http::{BodyError, Chunk, RequestBody};
use roving_runtime::Cancelled;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The body of a request: `environ["wsgi.input"]`.
///
/// Reading waits for the client, and other fibers run meanwhile. After the end there is b"". A body that breaks off raises
/// OSError, one that comes too slowly TimeoutError; neither ever seems to have ended.
#[pyclass(frozen, module = "roving", name = "_Input")]
pub(crate) struct Input {
    /// `None` while somebody reads.
    reader: Mutex<Option<Reader>>,
}

struct Reader {
    body: RequestBody,
    unread: VecDeque<Bytes>,
    count: usize,
    ended: bool,
}

/// How much a read wants.
#[derive(Clone, Copy)]
enum Wanted {
    All,
    Bytes(usize),
    /// A line, of so many bytes at most.
    Line(usize),
}

impl Wanted {
    fn of(size: Option<isize>, line: bool) -> Self {
        let size = size.and_then(|size| usize::try_from(size).ok());
        match (size, line) {
            (size, true) => Wanted::Line(size.unwrap_or(usize::MAX)),
            (Some(size), false) => Wanted::Bytes(size),
            (None, false) => Wanted::All,
        }
    }
}

impl Reader {
    /// Waits once for more.
    fn receive(&mut self, py: Python<'_>) -> PyResult<()> {
        let mut failed = None;
        wait::block(py, None, Why::Descriptor, Target::Outside, |until| {
            match self.body.next(until) {
                Ok(Ok(Chunk::Data(data))) => {
                    self.count += data.len();
                    self.unread.push_back(data);
                    Step::Done
                }
                Ok(Ok(Chunk::End)) => {
                    self.ended = true;
                    Step::Done
                }
                Ok(Ok(Chunk::TimedOut)) => Step::TimedOut,
                Ok(Err(error)) => {
                    failed = Some(error);
                    Step::Done
                }
                Err(Cancelled) => Step::Interrupted,
            }
        })?;
        match failed {
            None => Ok(()),
            Some(error @ BodyError::TooSlow) => Err(PyTimeoutError::new_err(error.to_string())),
            Some(error) => Err(PyOSError::new_err(error.to_string())),
        }
    }

    /// Waits until there is what is wanted, or the end has come; says how much to take.
    fn fill(&mut self, py: Python<'_>, wanted: Wanted) -> PyResult<usize> {
        // Chunks and bytes before this have no end of a line in them.
        let (mut chunks, mut before) = (0, 0);
        loop {
            match wanted {
                Wanted::Bytes(size) if self.count >= size => return Ok(size),
                Wanted::Line(most) => {
                    for chunk in self.unread.iter().skip(chunks) {
                        if let Some(place) = chunk.iter().position(|byte| *byte == b'\n') {
                            return Ok((before + place + 1).min(most));
                        }
                        chunks += 1;
                        before += chunk.len();
                    }
                    if self.count >= most {
                        return Ok(most);
                    }
                }
                Wanted::All | Wanted::Bytes(_) => {}
            }
            if self.ended {
                return Ok(self.count);
            }
            self.receive(py)?;
        }
    }

    /// Takes so many of the bytes that are there.
    fn take<'py>(&mut self, py: Python<'py>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = PyBytes::new_with(py, count, |mut to| {
            for chunk in &self.unread {
                let part = chunk.len().min(to.len());
                to[..part].copy_from_slice(&chunk[..part]);
                to = &mut to[part..];
            }
            Ok(())
        })?;
        let mut left = count;
        while left != 0 {
            let first = self.unread.front_mut().expect("there are so many bytes");
            if first.len() <= left {
                left -= first.len();
                self.unread.pop_front();
            } else {
                first.advance(left);
                left = 0;
            }
        }
        self.count -= count;
        Ok(bytes)
    }
}

/// A reader that was taken out of its place, to which it goes back.
struct Taken<'a> {
    input: &'a Input,
    reader: Option<Reader>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.input.place() = self.reader.take();
    }
}

impl Input {
    pub(crate) fn new(body: RequestBody) -> Self {
        Self {
            reader: Mutex::new(Some(Reader {
                body,
                unread: VecDeque::new(),
                count: 0,
                ended: false,
            })),
        }
    }

    fn place(&self) -> MutexGuard<'_, Option<Reader>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it: the request is over, whoever still has it. What the client still sends is nobody's.
    pub(crate) fn close(&self) {
        let reader = self.place().take();
        drop(reader);
    }

    fn get<'py>(&self, py: Python<'py>, wanted: Wanted) -> PyResult<Bound<'py, PyBytes>> {
        let reader = self.place().take();
        let reader = reader.ok_or_else(|| {
            PyRuntimeError::new_err("another fiber or thread reads this body, or its request is over")
        })?;
        let mut taken = Taken {
            input: self,
            reader: Some(reader),
        };
        let reader = taken.reader.as_mut().expect("just put there");
        let count = reader.fill(py, wanted)?;
        reader.take(py, count)
    }
}

#[pymethods]
impl Input {
    /// Read `size` bytes, fewer only at the end; all that is left, with None or a negative number.
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.get(py, Wanted::of(size, false))
    }

    /// Read up to and with the next newline, `size` bytes at most.
    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.get(py, Wanted::of(size, true))
    }

    /// Read the lines that are left: with `hint`, no more once they have so many bytes.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let hint = hint
            .and_then(|hint| usize::try_from(hint).ok())
            .filter(|hint| *hint != 0);
        let lines = PyList::empty(py);
        let mut count = 0;
        loop {
            let line = self.get(py, Wanted::Line(usize::MAX))?;
            if line.as_bytes().is_empty() {
                return Ok(lines);
            }
            count += line.as_bytes().len();
            lines.append(line)?;
            if hint.is_some_and(|hint| count >= hint) {
                return Ok(lines);
            }
        }
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.get(py, Wanted::Line(usize::MAX))?;
        Ok((!line.as_bytes().is_empty()).then_some(line))
    }
}
