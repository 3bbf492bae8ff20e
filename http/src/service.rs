//! A request's way from hyper to the application, and the response's way back.
//!
//! Polled by the connection's task alone. The stages: wait for a turn, where there are too many requests; receive the first
//! part of the body; call the application; wait for its response.

use crate::exchange::Exchange;
use crate::limit::{Asked, Limit, Permit, Waiting};
use crate::meter::Tally;
use crate::registry::Course;
use crate::request_body::{BodyError, Pace, RequestBody};
use crate::responder::Responder;
use crate::response_body::ResponseBody;
use crate::server::Context;
use crate::slot::Slot;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::Service;
use roving_runtime::Sleep;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::Instant;

/// What serves the requests of one connection.
pub(crate) struct Requests(pub(crate) Arc<Context>);

impl Service<Request<Incoming>> for Requests {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Reply;

    fn call(&self, request: Request<Incoming>) -> Reply {
        self.begin(request, None)
    }
}

impl Requests {
    pub(crate) fn max_fields(&self) -> usize {
        self.0.shared.config.max_headers
    }

    /// Begins to answer a request, for which there may be a refusal already.
    pub(crate) fn begin(&self, request: Request<Incoming>, refusal: Option<StatusCode>) -> Reply {
        let context = &self.0;
        context.link.begin_request();
        let config = &context.shared.config;
        let (head, incoming) = request.into_parts();
        let pace = Pace {
            grace: config.body_grace,
            rate: config.min_body_rate,
            most: config.max_body,
        };
        let body = RequestBody::new(incoming, pace, context.clone());
        let stage = if let Some(refusal) = refusal.or_else(|| self.refusal(&head, &body)) {
            Stage::Refused(refusal)
        } else {
            match Limit::ask(&context.shared.limit) {
                Asked::Granted => Stage::Receiving {
                    permit: Permit::new(context.clone()),
                    since: None,
                },
                Asked::Queued(waiting) => {
                    context.link.begin_wait();
                    Stage::Queued(waiting)
                }
                Asked::Refused => {
                    context.shared.counts.refused();
                    Stage::Refused(StatusCode::SERVICE_UNAVAILABLE)
                }
            }
        };
        Reply {
            tally: context.link.tally(&head.method),
            context: context.clone(),
            request: Some((head, body)),
            stage,
        }
    }

    /// Why a request is not worth a turn.
    fn refusal(&self, head: &http::request::Parts, body: &RequestBody) -> Option<StatusCode> {
        let config = &self.0.shared.config;
        let target = head.uri.path_and_query().map_or(0, |path| path.as_str().len());
        if target > config.max_target {
            return Some(StatusCode::URI_TOO_LONG);
        }
        body.failure().map(status_of)
    }
}

fn status_of(error: &BodyError) -> StatusCode {
    match error {
        BodyError::Broken(_) => StatusCode::BAD_REQUEST,
        BodyError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
    }
}

/// The future of one response.
pub(crate) struct Reply {
    context: Arc<Context>,
    /// Until the response has it.
    tally: Option<Tally>,
    /// `None` once the application has it.
    request: Option<(http::request::Parts, RequestBody)>,
    stage: Stage,
}

enum Stage {
    Queued(Waiting),
    Receiving {
        permit: Permit,
        /// When the client was first waited for, and until when it is.
        since: Option<(Instant, Option<Sleep>)>,
    },
    Refused(StatusCode),
    Called(Arc<Slot>),
    Done,
}

impl Future for Reply {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let next = match &mut this.stage {
                Stage::Queued(waiting) => {
                    ready!(waiting.poll(context));
                    this.context.link.end_wait();
                    Stage::Receiving {
                        permit: Permit::new(this.context.clone()),
                        since: None,
                    }
                }
                Stage::Receiving { .. } => ready!(this.receive(context)),
                &mut Stage::Refused(status) => {
                    let response = this.refuse(status);
                    this.stage = Stage::Done;
                    return Poll::Ready(Ok(response));
                }
                Stage::Called(slot) => {
                    let mut response = ready!(slot.poll_take(context));
                    this.stage = Stage::Done;
                    this.finish(&mut response);
                    return Poll::Ready(Ok(response));
                }
                Stage::Done => unreachable!("hyper polls a response once it is ready no more"),
            };
            this.stage = next;
        }
    }
}

impl Reply {
    /// Receives the first part of the body, then calls the application.
    fn receive(&mut self, context: &mut task::Context<'_>) -> Poll<Stage> {
        let Stage::Receiving { since, .. } = &mut self.stage else {
            unreachable!("called in this stage")
        };
        let (head, body) = self
            .request
            .as_mut()
            .expect("the application does not have it yet");
        // Who expects a 100 gets it once the application reads, and sends nothing before.
        if !body.is_at_end() && !head.headers.contains_key(header::EXPECT) {
            let handle = &self.context.shared.handle;
            match body.poll_prefetch(context, self.context.shared.config.prefetch) {
                Poll::Ready(Ok(())) => {
                    if let Some((since, _)) = since {
                        body.note_waited(handle.now().saturating_duration_since(*since));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Stage::Refused(status_of(&error))),
                Poll::Pending => {
                    let (began, sleep) = since.get_or_insert_with(|| {
                        let now = handle.now();
                        (now, None)
                    });
                    let Some(patience) = body.prefetch_time() else {
                        return Poll::Pending;
                    };
                    let until = *began + patience;
                    // Each byte buys time, so the timer is set anew only when it has fired.
                    loop {
                        let timer = sleep.get_or_insert_with(|| handle.sleep_until(until));
                        ready!(Pin::new(&mut *timer).poll(context));
                        if handle.now() >= until {
                            body.fail(BodyError::TooSlow);
                            return Poll::Ready(Stage::Refused(StatusCode::REQUEST_TIMEOUT));
                        }
                        *sleep = None;
                    }
                }
            }
        }
        let Stage::Receiving { permit, .. } = std::mem::replace(&mut self.stage, Stage::Done) else {
            unreachable!("it was that stage")
        };
        let (request, body) = self.request.take().expect("the application does not have it yet");
        let slot = Arc::new(Slot::new());
        let exchange = Exchange {
            request,
            body,
            responder: Responder::new(slot.clone(), self.context.clone()),
            endpoint: self.context.endpoint.clone(),
            permit,
        };
        let shared = &self.context.shared;
        shared.application.call(&shared.handle, exchange);
        Poll::Ready(Stage::Called(slot))
    }

    /// Answers without the application.
    fn refuse(&mut self, status: StatusCode) -> Response<ResponseBody> {
        if let Some((_, body)) = self.request.take()
            && body.is_unread()
        {
            self.context.link.set_last();
        }
        let mut response = Response::new(ResponseBody::whole(Bytes::new()));
        *response.status_mut() = status;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        self.finish(&mut response);
        response
    }

    /// What all responses have in common.
    fn finish(&mut self, response: &mut Response<ResponseBody>) {
        let mut tally = self.tally.take();
        if let Some(tally) = &mut tally {
            tally.set_status(response.status());
        }
        response.body_mut().set_link(self.context.link.clone(), tally);
        // The client's next connection is the other process's.
        let moves = self.context.shared.registry.course() == Course::HandedOver;
        if moves || self.context.link.is_last() {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(server) = &self.context.shared.config.server
            && !response.headers().contains_key(header::SERVER)
        {
            response.headers_mut().insert(header::SERVER, server.clone());
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.context.link.record(self.tally.take());
        if let Stage::Called(slot) = &self.stage {
            slot.abandon();
        }
    }
}
