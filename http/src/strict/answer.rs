//! How a connection ends: the answer to what was refused, the end of our side, and a while of reading on.

use super::fault::Fault;
use super::stream::Config;
use hyper::rt::{Read, ReadBuf, Sleep, Write};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

/// The time of day, as a `Date` field has it.
pub(crate) fn date() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

/// The answer to a refused head. To HEAD it has no content, or that would be read as a further response.
pub(crate) fn response(fault: Fault, of_head: bool) -> Vec<u8> {
    let status = fault.status();
    let text = format!("{status}: {} ({})\n", fault.text(), fault.clause());
    let mut response = format!(
        "HTTP/1.1 {status}\r\n\
         date: {}\r\n\
         connection: close\r\n\
         content-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\n\
         \r\n",
        date(),
        text.len(),
    );
    if !of_head {
        response.push_str(&text);
    }
    response.into_bytes()
}

/// A connection on its way to its end.
pub(super) struct Closing {
    answer: Vec<u8>,
    written: usize,
    /// Bytes that may still be read, or none where nobody waits.
    linger: usize,
    stage: Stage,
    sleep: Option<Pin<Box<dyn Sleep>>>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Answer,
    Flush,
    Shutdown,
    Linger,
    Done,
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing")
            .field("stage", &self.stage)
            .field("linger", &self.linger)
            .finish_non_exhaustive()
    }
}

impl Closing {
    /// With an answer, which may be empty, and bytes that may be read afterwards.
    pub(super) fn new(answer: Vec<u8>, linger: usize) -> Self {
        Self {
            answer,
            written: 0,
            linger,
            stage: Stage::Answer,
            sleep: None,
        }
    }

    /// Goes on until all is done.
    pub(super) fn poll<I: Read + Write + Unpin>(
        &mut self,
        io: &mut I,
        config: &Config,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        // A client that takes no answer is waited for no longer than one that sends on.
        if let (None, Some(timer)) = (&self.sleep, &config.timer)
            && (self.linger > 0 || !self.answer.is_empty())
        {
            self.sleep = Some(timer.sleep(config.linger.time));
        }
        let done = match self.poll_stages(io, cx) {
            Poll::Pending if self.waits_no_longer(cx) => Poll::Ready(Ok(())),
            done => done,
        };
        if done.is_ready() {
            self.stage = Stage::Done;
            self.sleep = None;
        }
        done
    }

    fn waits_no_longer(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(cx).is_ready(),
            None => matches!(self.stage, Stage::Linger),
        }
    }

    fn poll_stages<I: Read + Write + Unpin>(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            self.stage = match self.stage {
                Stage::Answer => match &self.answer[self.written..] {
                    [] => Stage::Flush,
                    rest => {
                        let count = ready!(Pin::new(&mut *io).poll_write(cx, rest))?;
                        if count == 0 {
                            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                        }
                        self.written += count;
                        Stage::Answer
                    }
                },
                Stage::Flush => {
                    ready!(Pin::new(&mut *io).poll_flush(cx))?;
                    Stage::Shutdown
                }
                Stage::Shutdown => {
                    ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
                    Stage::Linger
                }
                Stage::Linger if self.linger == 0 => Stage::Done,
                Stage::Linger => {
                    let mut scratch = [MaybeUninit::uninit(); 4096];
                    let mut buf = ReadBuf::uninit(&mut scratch);
                    self.linger = match ready!(Pin::new(&mut *io).poll_read(cx, buf.unfilled())) {
                        Ok(()) if !buf.filled().is_empty() => self.linger.saturating_sub(buf.filled().len()),
                        // It has read the answer and is gone, or is gone anyway.
                        _ => 0,
                    };
                    Stage::Linger
                }
                Stage::Done => return Poll::Ready(Ok(())),
            };
        }
    }
}
