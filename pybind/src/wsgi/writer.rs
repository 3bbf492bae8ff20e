//! What an application has said of its response, and what of it is on its way.

use super::start::Prepared;
use crate::held::Held;
use crate::wait::{self, Step, Target, Why};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use roving_http::{Head, Responder, Written};
use roving_runtime::Cancelled;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Above this many bytes a chunk is sent from where it is, and its object kept meanwhile; below, it is copied.
const COPIED: usize = 16 << 10;

/// What start_response returns: called with bytes, it sends them.
///
/// For applications that cannot give an iterable. Raises BrokenPipeError when the client has gone.
#[pyclass(frozen, module = "roving", name = "_Writer")]
pub(crate) struct Writer {
    state: Mutex<State>,
}

struct State {
    /// `None` while somebody writes with it.
    responder: Option<Responder>,
    head: Option<Prepared>,
    stage: Stage,
    /// The client asked for the head alone.
    head_only: bool,
    /// What has been sent: a status, or 0, and so many bytes of a body.
    sent: (u16, u64),
    /// The fields of the head that was sent, where the log wants them.
    keeps: bool,
    kept: Option<HeaderMap>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Nothing,
    /// With so many bytes to come, if that is known.
    Streaming(Option<u64>),
    /// All has been sent that will be.
    Whole,
}

/// What came of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// More may follow.
    Open,
    /// Nothing more will be sent, and nothing is missing: the client asked for the head alone.
    Discarded,
    /// Bytes beyond what Content-Length says, which were not sent.
    Excess,
    ClientGone,
}

/// What is wrong with a response, in words for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) String);

pub(crate) enum Failure {
    Raised(PyErr),
    Fault(Fault),
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Failure::Raised(error)
    }
}

fn fault<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Fault(Fault(text.into())))
}

/// Bytes that Python owns.
struct Kept(Held);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: names a lifetime; bytes do not change, and nothing below touches a count.
        let py = unsafe { Python::assume_attached() };
        let object = self.0.bind(py);
        // SAFETY: made of bytes alone.
        unsafe { object.cast_unchecked::<PyBytes>() }.as_bytes()
    }
}

/// The bytes of an object, copied if they are few.
pub(crate) fn bytes_of(object: &Bound<'_, PyBytes>) -> Bytes {
    let bytes = object.as_bytes();
    if bytes.len() <= COPIED {
        Bytes::copy_from_slice(bytes)
    } else {
        Bytes::from_owner(Kept(Held::new(object.clone().into_any().unbind())))
    }
}

/// A responder that was taken out of its place, to which it goes back.
struct Taken<'a> {
    writer: &'a Writer,
    responder: Option<Responder>,
}

impl Taken<'_> {
    fn get(&mut self) -> &mut Responder {
        self.responder.as_mut().expect("there until it is dropped")
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.writer.state().responder = self.responder.take();
    }
}

impl Writer {
    pub(crate) fn new(responder: Responder, head_only: bool, keeps: bool) -> Self {
        Self {
            state: Mutex::new(State {
                responder: Some(responder),
                head: None,
                stage: Stage::Nothing,
                head_only,
                sent: (0, 0),
                keeps,
                kept: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the head has been sent.
    pub(crate) fn has_begun(&self) -> bool {
        self.state().stage != Stage::Nothing
    }

    pub(crate) fn set_head(&self, head: Prepared, again: bool) -> PyResult<()> {
        let mut state = self.state();
        if !again && (state.head.is_some() || state.stage != Stage::Nothing) {
            drop(state);
            return Err(PyAssertionError::new_err(
                "start_response was called again, without exc_info",
            ));
        }
        let old = state.head.replace(head);
        drop(state);
        drop(old);
        Ok(())
    }

    fn take(&self) -> PyResult<Taken<'_>> {
        let responder = self.state().responder.take();
        match responder {
            Some(responder) => Ok(Taken {
                writer: self,
                responder: Some(responder),
            }),
            None => Err(PyRuntimeError::new_err(
                "another fiber or thread writes this response, or it is over",
            )),
        }
    }

    /// The head, to be sent now.
    fn take_head(&self) -> Result<Prepared, Failure> {
        match self.head() {
            Some(head) => Ok(head),
            None => fault("it gave a body without having called start_response"),
        }
    }

    /// The head, if there is one.
    fn head(&self) -> Option<Prepared> {
        let mut state = self.state();
        let head = state.head.take()?;
        if state.keeps {
            state.kept = Some(head.head.headers.clone());
        }
        Some(head)
    }

    /// A field of the head that was sent.
    pub(crate) fn kept(&self, name: &HeaderName) -> Option<HeaderValue> {
        self.state().kept.as_ref()?.get(name).cloned()
    }

    fn set_stage(&self, stage: Stage) {
        self.state().stage = stage;
    }

    /// What has been sent: a status, or 0, and so many bytes of a body.
    pub(crate) fn sent(&self) -> (u16, u64) {
        self.state().sent
    }

    /// Sends all there is in one step.
    fn send(&self, taken: &mut Taken<'_>, head: Head, body: Bytes) -> Wrote {
        {
            let mut state = self.state();
            state.stage = Stage::Whole;
            state.sent = (head.status.as_u16(), body.len() as u64);
        }
        match taken.get().send(head, body) {
            Ok(()) => Wrote::Open,
            Err(_) => Wrote::ClientGone,
        }
    }

    /// Sends a response whose body is `body` and nothing else.
    pub(crate) fn whole(&self, body: Bytes) -> Result<Wrote, Failure> {
        let mut taken = self.take()?;
        let head_only = self.state().head_only;
        let head = self.take_head()?;
        if is_bodyless(&head, head_only) {
            return Ok(self.send_head(&mut taken, head, Some(body.len() as u64), head_only));
        }
        if let Some(length) = head.length
            && length != body.len() as u64
        {
            return fault(format!(
                "Content-Length says {length} bytes, and the body has {}",
                body.len()
            ));
        }
        let head = finished(head, None);
        Ok(self.send(&mut taken, head, body))
    }

    /// Sends a head alone. `known`: how long the body is that is not sent.
    fn send_head(&self, taken: &mut Taken<'_>, head: Prepared, known: Option<u64>, head_only: bool) -> Wrote {
        // A length where there can be none is the application's mistake, and hyper's to refuse.
        let may_have = head.head.status != StatusCode::NO_CONTENT;
        let length = head.length.or(known.filter(|_| head_only)).filter(|_| may_have);
        let head = finished(head, length);
        self.send(taken, head, Bytes::new());
        Wrote::Discarded
    }

    /// Sends a chunk, and the head before the first.
    pub(crate) fn write(&self, py: Python<'_>, chunk: &Bound<'_, PyBytes>) -> Result<Wrote, Failure> {
        let length = chunk.as_bytes().len() as u64;
        let mut taken = self.take()?;
        let (stage, head_only) = {
            let state = self.state();
            (state.stage, state.head_only)
        };
        let left = match stage {
            Stage::Whole => {
                return Ok(match taken.get().is_gone() {
                    true => Wrote::ClientGone,
                    false => Wrote::Excess,
                });
            }
            Stage::Streaming(left) => left,
            Stage::Nothing => {
                let head = self.take_head()?;
                if is_bodyless(&head, head_only) {
                    return Ok(self.send_head(&mut taken, head, None, head_only));
                }
                let declared = head.length;
                if declared.is_some_and(|declared| declared <= length) {
                    let declared = declared.unwrap_or(0);
                    let head = finished(head, None);
                    let body = bytes_of(chunk).slice(..declared as usize);
                    let wrote = self.send(&mut taken, head, body);
                    return Ok(match wrote {
                        Wrote::Open if declared < length => Wrote::Excess,
                        wrote => wrote,
                    });
                }
                let head = finished(head, None);
                self.set_stage(Stage::Streaming(declared));
                self.state().sent.0 = head.status.as_u16();
                if taken.get().start(head, declared).is_err() {
                    return Ok(Wrote::ClientGone);
                }
                declared
            }
        };
        let allowed = left.map_or(length, |left| left.min(length));
        if allowed != 0 {
            match wait_for_room(py, taken.get())? {
                Written::Room => {}
                _ => return Ok(Wrote::ClientGone),
            }
            let body = bytes_of(chunk).slice(..allowed as usize);
            if taken.get().write(body).is_err() {
                return Ok(Wrote::ClientGone);
            }
            let mut state = self.state();
            state.stage = Stage::Streaming(left.map(|left| left - allowed));
            state.sent.1 += allowed;
        }
        Ok(if allowed < length {
            Wrote::Excess
        } else {
            Wrote::Open
        })
    }

    /// The application is done.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        let mut taken = self.take()?;
        let (stage, head_only) = {
            let state = self.state();
            (state.stage, state.head_only)
        };
        match stage {
            Stage::Whole => Ok(()),
            Stage::Nothing => {
                let head = match self.head() {
                    Some(head) => head,
                    None => return fault("it returned without having called start_response"),
                };
                if is_bodyless(&head, head_only) {
                    self.send_head(&mut taken, head, None, head_only);
                    return Ok(());
                }
                if let Some(length) = head.length.filter(|length| *length != 0) {
                    return fault(format!(
                        "Content-Length says {length} bytes, and there is no body"
                    ));
                }
                let head = finished(head, None);
                self.send(&mut taken, head, Bytes::new());
                Ok(())
            }
            Stage::Streaming(Some(left)) if left != 0 => {
                taken.get().abort();
                fault(format!(
                    "the body is {left} bytes shorter than its Content-Length"
                ))
            }
            Stage::Streaming(_) => {
                taken.get().finish();
                Ok(())
            }
        }
    }

    /// The application failed: answers 500 if nothing has been sent, and else breaks the connection off.
    pub(crate) fn fail(&self) {
        let Ok(mut taken) = self.take() else { return };
        let (stage, head_only) = {
            let state = self.state();
            (state.stage, state.head_only)
        };
        match stage {
            Stage::Whole => {}
            Stage::Streaming(_) => taken.get().abort(),
            Stage::Nothing => {
                let mut head = Head {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    ..Head::default()
                };
                head.headers.insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("text/plain; charset=utf-8"),
                );
                let body = if head_only { "" } else { "Internal Server Error\n" };
                self.send(&mut taken, head, Bytes::from_static(body.as_bytes()));
            }
        }
    }

    /// Gives up the responder, which is dropped: the request is over.
    pub(crate) fn close(&self) {
        let responder = self.state().responder.take();
        drop(responder);
    }

    /// Has `hook` called when the client goes.
    pub(crate) fn on_gone(&self, hook: impl FnOnce() + Send + 'static) {
        let state = self.state();
        if let Some(responder) = &state.responder {
            responder.on_gone(hook);
        }
    }

    /// The length that the application has announced, if the head has not been sent yet.
    pub(crate) fn announced(&self) -> Option<Option<u64>> {
        self.state().head.as_ref().map(|head| head.length)
    }

    /// Announces a length, where the application has said none.
    pub(crate) fn announce(&self, length: u64) {
        if let Some(head) = &mut self.state().head
            && head.length.is_none()
        {
            head.length = Some(length);
        }
    }
}

/// Whether a response has no body, whatever the application gives.
fn is_bodyless(head: &Prepared, head_only: bool) -> bool {
    head_only
        || matches!(
            head.head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        )
}

/// The head as it is sent. `length` is only for one that has no body with it: others say it themselves.
fn finished(prepared: Prepared, length: Option<u64>) -> Head {
    let mut head = prepared.head;
    if let Some(length) = length {
        head.headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if prepared.close {
        head.headers
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    head
}

fn wait_for_room(py: Python<'_>, responder: &Responder) -> PyResult<Written> {
    let mut written = Written::Gone;
    wait::block(
        py,
        None,
        Why::Descriptor,
        Target::Outside,
        |until| match responder.wait_for_room(until) {
            Ok(Written::TimedOut) => Step::TimedOut,
            Ok(other) => {
                written = other;
                Step::Done
            }
            Err(Cancelled) => Step::Interrupted,
        },
    )?;
    Ok(written)
}

#[pymethods]
impl Writer {
    /// Send some bytes.
    fn __call__(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(data) = data.cast::<PyBytes>() else {
            let kind = data.get_type().name()?;
            return Err(PyTypeError::new_err(format!("write takes bytes, not {kind}")));
        };
        if data.as_bytes().is_empty() {
            return Ok(());
        }
        match self.write(py, data) {
            Ok(Wrote::Open | Wrote::Discarded) => Ok(()),
            Ok(Wrote::Excess) => Err(PyAssertionError::new_err(
                "write was given more than Content-Length says",
            )),
            Ok(Wrote::ClientGone) => Err(PyBrokenPipeError::new_err("the client has gone")),
            Err(Failure::Raised(error)) => Err(error),
            Err(Failure::Fault(Fault(text))) => Err(PyAssertionError::new_err(text)),
        }
    }
}
