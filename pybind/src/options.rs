//! `roving.options`: how a fiber is started.

use crate::entry;
use crate::fiber::Fiber;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use roving_runtime::FiberBuilder;

/// The sizes of stacks that there are.
const STACKS: std::ops::RangeInclusive<usize> = 1..=8 << 20;

pub(crate) struct Settings {
    name: Option<String>,
    stack_size: Option<usize>,
    daemon: bool,
    spread: bool,
    background: bool,
}

impl Settings {
    /// A thread's. A larger stack than there is becomes the largest.
    pub(crate) fn thread(name: Option<String>, stack_size: usize, daemon: bool) -> Self {
        Self {
            name,
            stack_size: (stack_size != 0).then(|| stack_size.min(*STACKS.end())),
            daemon,
            spread: false,
            background: false,
        }
    }

    pub(crate) fn apply<'a>(&self, mut builder: FiberBuilder<'a>) -> FiberBuilder<'a> {
        if let Some(name) = &self.name {
            builder = builder.name(name.as_str());
        }
        if let Some(bytes) = self.stack_size {
            builder = builder.stack_size(bytes);
        }
        if self.daemon {
            builder = builder.daemon();
        }
        if self.spread {
            builder = builder.spread();
        }
        if self.background {
            builder = builder.background();
        }
        builder
    }
}

/// Checks a stack size.
pub(crate) fn stack_size(bytes: isize) -> PyResult<usize> {
    let size = usize::try_from(bytes).ok().filter(|size| STACKS.contains(size));
    size.ok_or_else(|| {
        PyValueError::new_err(format!("stack_size must be from 1 byte to 8 MiB, and is {bytes}"))
    })
}

/// How fibers are started: made by roving.options.
#[pyclass(frozen, module = "roving")]
pub(crate) struct Options(Settings);

/// Set how fibers are started: roving.options(name="fetch").spawn(function, ...).
///
/// `name` appears in dumps and reports. `stack_size` is in bytes of address space, rounded up to a power of two from
/// 128 KiB to 8 MiB: more is for deep recursion of C code. roving.run does not wait for a `daemon`. `spread` starts it on
/// the worker with the fewest fibers, whatever its spawner's does. A `background` fiber runs when others have nothing
/// to do, and now and then. An Options may be kept and used again.
///
/// >>> roving.options(name="sum").spawn(sum, [1, 2]).name
/// 'sum'
#[pyfunction]
#[pyo3(signature = (*, name=None, stack_size=None, daemon=false, spread=false, background=false))]
pub(crate) fn options(
    name: Option<String>,
    stack_size: Option<isize>,
    daemon: bool,
    spread: bool,
    background: bool,
) -> PyResult<Options> {
    let stack_size = stack_size.map(self::stack_size).transpose()?;
    Ok(Options(Settings {
        name,
        stack_size,
        daemon,
        spread,
        background,
    }))
}

#[pymethods]
impl Options {
    fn __repr__(&self) -> String {
        let Settings {
            name,
            stack_size,
            daemon,
            spread,
            background,
        } = &self.0;
        let flag = |set: bool, text: &str| set.then(|| format!("{text}=True"));
        let said = [
            name.as_ref().map(|name| format!("name={name:?}")),
            stack_size.map(|bytes| format!("stack_size={bytes}")),
            flag(*daemon, "daemon"),
            flag(*spread, "spread"),
            flag(*background, "background"),
        ];
        let said: Vec<_> = said.into_iter().flatten().collect();
        format!("<roving.options({})>", said.join(", "))
    }

    /// Start a fiber that calls function(*args, **kwargs), with these options, and return it.
    #[pyo3(signature = (function, /, *args, **kwargs))]
    fn spawn(
        &self,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Fiber>> {
        entry::spawn_named(function.py(), function, args, kwargs, Some(&self.0), None)
    }
}
