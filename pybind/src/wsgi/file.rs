//! `wsgi.file_wrapper`: a file as a response, read in Rust where it is a real one.

use super::writer::{Failure, Fault, Writer, Wrote};
use crate::wait;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::fs::FileExt;

/// How much of a file is read at a time.
const BLOCK: usize = 256 << 10;

/// A file as a response: what `wsgi.file_wrapper` makes.
///
/// Given back by the application as it is, it is sent from the file's position on; so are a real file's bytes without any
/// Python code. In other hands it is an iterable of blocks.
#[pyclass(frozen, module = "roving", name = "_FileWrapper")]
pub(crate) struct FileWrapper {
    file: Py<PyAny>,
    block: usize,
}

/// A file-like object, and the size of the blocks it is read in when it is iterated over.
#[pyfunction]
#[pyo3(name = "file_wrapper", signature = (filelike, block_size=8192, /))]
fn make(filelike: Py<PyAny>, block_size: usize) -> FileWrapper {
    FileWrapper {
        file: filelike,
        block: block_size.max(1),
    }
}

impl FileWrapper {
    /// What stands in an environ.
    pub(crate) fn maker(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(wrap_pyfunction!(make, py)?.into_any())
    }
}

#[pymethods]
impl FileWrapper {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = read(self.file.bind(py), self.block)?;
        Ok(block.is_truthy()?.then_some(block))
    }

    /// Close the file, if it can be closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.file.bind(py).getattr_opt(intern!(py, "close"))? {
            Some(close) => close.call0().map(drop),
            None => Ok(()),
        }
    }
}

fn read<'py>(file: &Bound<'py, PyAny>, size: usize) -> PyResult<Bound<'py, PyAny>> {
    file.call_method1(intern!(file.py(), "read"), (size,))
}

/// A real file, from its position on.
struct Real {
    descriptor: RawFd,
    position: u64,
    size: u64,
}

/// What is behind a file object, if it is one of `io`'s over a regular file.
fn real(file: &Bound<'_, PyAny>) -> PyResult<Option<Real>> {
    let py = file.py();
    let class = file.get_type();
    let known = class.module()?.to_str()? == "_io"
        && matches!(
            class.name()?.to_str()?,
            "BufferedReader" | "BufferedRandom" | "FileIO"
        );
    if !known {
        return Ok(None);
    }
    let descriptor: RawFd = file.call_method0(intern!(py, "fileno"))?.extract()?;
    // SAFETY: `stat` is plain data.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: writes to `status` alone.
    if unsafe { libc::fstat(descriptor, &raw mut status) } != 0 {
        return Err(PyErr::from(io::Error::last_os_error()));
    }
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Ok(None);
    }
    let position: u64 = file.call_method0(intern!(py, "tell"))?.extract()?;
    Ok(Some(Real {
        descriptor,
        position,
        size: u64::try_from(status.st_size).unwrap_or(0),
    }))
}

/// Sends a file.
pub(crate) fn send(py: Python<'_>, writer: &Writer, wrapper: &FileWrapper) -> Result<Wrote, Failure> {
    let file = wrapper.file.bind(py);
    let Some(real) = real(file)? else {
        return send_blocks(py, writer, file);
    };
    let mut left = real.size.saturating_sub(real.position);
    if let Some(Some(announced)) = writer.announced() {
        left = left.min(announced);
    } else {
        writer.announce(left);
    }
    let mut position = real.position;
    while left != 0 {
        let size = left.min(BLOCK as u64) as usize;
        let mut filled = 0;
        let block = PyBytes::new_with(py, size, |buffer| {
            filled = read_at(py, real.descriptor, position, buffer)?;
            Ok(())
        })?;
        if filled == 0 {
            // It has become shorter meanwhile.
            return Ok(Wrote::Open);
        }
        let block = match filled == size {
            true => block,
            false => PyBytes::new(py, &block.as_bytes()[..filled]),
        };
        position += filled as u64;
        left -= filled as u64;
        match writer.write(py, &block)? {
            Wrote::Open => {}
            other => return Ok(other),
        }
        wait::checkpoint(py)?;
    }
    Ok(Wrote::Open)
}

/// Reads a block, detached: the disk may take its time.
fn read_at(py: Python<'_>, descriptor: RawFd, position: u64, buffer: &mut [u8]) -> PyResult<usize> {
    py.detach(|| {
        // SAFETY: open as long as its file object, which the caller holds; should the application close it meanwhile, the read
        // fails, or reads what has taken its number, as with any descriptor in Python. Never closed here.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) });
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    })
    .map_err(|error| PyOSError::new_err(error.to_string()))
}

/// Sends what a file-like object reads.
fn send_blocks(py: Python<'_>, writer: &Writer, file: &Bound<'_, PyAny>) -> Result<Wrote, Failure> {
    loop {
        let block = read(file, BLOCK)?;
        let Ok(block) = block.cast::<PyBytes>() else {
            let kind = block
                .get_type()
                .name()
                .map_or_else(|_| "?".to_owned(), |name| name.to_string());
            return Err(Failure::Fault(Fault(format!(
                "the file it gave reads {kind}, not bytes: open it in binary mode"
            ))));
        };
        if block.as_bytes().is_empty() {
            return Ok(Wrote::Open);
        }
        match writer.write(py, block)? {
            Wrote::Open => {}
            other => return Ok(other),
        }
    }
}
