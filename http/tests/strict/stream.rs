//! The stream in front of hyper: what hyper does while something is refused, and how connections end.

use crate::parts::Random;
use crate::wire::{Driven, Wire, statuses};
use crate::{invalid, shown, valid};
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::rt::{Read, ReadBuf, Sleep, Timer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use roving_http::strict::{Checker, Config, Fault, Limits, Linger, Phase, Refused, Strict, Watch, drive};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const GOOD: &[u8] = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
const BAD: &[u8] = b"GET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
const POST: &[u8] = b"POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";

#[derive(Default)]
struct Flow {
    frames: VecDeque<&'static str>,
    over: bool,
    waker: Option<Waker>,
    started: usize,
}

/// A response's body that comes as the test lets it.
#[derive(Clone, Default)]
struct Faucet(Rc<RefCell<Flow>>);

impl Faucet {
    fn push(&self, text: &'static str) {
        self.0.borrow_mut().frames.push_back(text);
        self.wake();
    }

    fn finish(&self) {
        self.0.borrow_mut().over = true;
        self.wake();
    }

    fn wake(&self) {
        self.0.borrow_mut().waker.take().inspect(Waker::wake_by_ref);
    }

    /// Responses that began.
    fn started(&self) -> usize {
        self.0.borrow().started
    }
}

impl Body for Faucet {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut flow = self.0.borrow_mut();
        match flow.frames.pop_front() {
            Some(text) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))),
            None if flow.over => {
                flow.over = false;
                Poll::Ready(None)
            }
            None => {
                flow.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A connection whose responses come out of the faucet, and whose requests' bodies are read or not.
fn connect<'f>(
    wire: &Wire,
    faucet: &Faucet,
    config: Config,
    half_close: bool,
) -> (Driven<'f, hyper::Result<()>>, Watch) {
    let strict = Strict::new(wire.clone(), Arc::new(config));
    let watch = strict.watch();
    let faucet = faucet.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let faucet = faucet.clone();
        async move {
            faucet.0.borrow_mut().started += 1;
            if request.uri().path() != "/unread" {
                let _ = request.into_body().collect().await;
            }
            Ok::<_, Infallible>(Response::builder().header("x-from", "app").body(faucet).unwrap())
        }
    });
    let connection = http1::Builder::new()
        .half_close(half_close)
        .serve_connection(strict, service);
    (Driven::new(drive(connection)), watch)
}

fn no_linger() -> Config {
    Config {
        linger: Linger {
            bytes: 0,
            ..Linger::default()
        },
        ..Config::default()
    }
}

/// Whatever hyper reads ahead while it writes, responses before a refusal are whole, and the refusal comes last.
#[test]
fn a_refusal_waits_for_the_responses_before_it() {
    let bytes = [GOOD, BAD, GOOD].concat();
    for half_close in [false, true] {
        for cut in 1..bytes.len() {
            let wire = Wire::with([&bytes[..cut], &bytes[cut..]]);
            let faucet = Faucet::default();
            let (mut driven, watch) = connect(&wire, &faucet, Config::default(), half_close);
            for text in ["one ", "two ", "three"] {
                assert!(driven.run().is_none(), "cut at {cut}: ended within a response");
                faucet.push(text);
            }
            assert!(driven.run().is_none());
            faucet.finish();
            assert!(driven.run().unwrap().is_ok(), "cut at {cut}");
            let written = wire.written();
            let (ours, refusal) = written.split_once("0\r\n\r\n").expect("a whole response");
            assert!(ours.contains("5\r\nthree\r\n"), "{ours}");
            assert_eq!(statuses(refusal), [400], "{refusal}");
            assert_eq!(faucet.started(), 1);
            assert_eq!(watch.refused().unwrap().fault, Fault::HostTwice);
            assert!(wire.is_shut());
        }
    }
}

/// It comes while the response is under way, in parts, and nobody is woken for nothing.
#[test]
fn a_refusal_may_come_late() {
    let wire = Wire::with([GOOD]);
    let faucet = Faucet::default();
    let (mut driven, watch) = connect(&wire, &faucet, Config::default(), false);
    assert!(driven.run().is_none());
    for part in BAD.chunks(7) {
        wire.send(part);
        assert!(driven.run().is_none());
        faucet.push("more ");
        assert!(driven.run().is_none());
    }
    assert_eq!(watch.phase(), Phase::Refused);
    faucet.finish();
    assert!(driven.run().unwrap().is_ok());
    assert!(
        wire.written().contains("0\r\n\r\nHTTP/1.1 400 Bad Request\r\n"),
        "{}",
        wire.written()
    );
}

/// A response that said it is the last one is the last one.
#[test]
fn nothing_is_written_after_the_last_response() {
    let closing = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let unread = b"POST /unread HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell";
    for first in [&closing[..], unread] {
        let wire = Wire::with([first]);
        let faucet = Faucet::default();
        let (mut driven, watch) = connect(&wire, &faucet, no_linger(), false);
        assert!(driven.run().is_none());
        faucet.push("text");
        faucet.finish();
        wire.send(BAD);
        assert!(driven.run().unwrap().is_ok());
        assert!(wire.written().ends_with("0\r\n\r\n"), "{}", wire.written());
        assert!(wire.is_shut() && watch.refused().is_none());
    }
}

/// The application may say so as well.
#[test]
fn the_application_has_the_last_word() {
    let wire = Wire::with([GOOD, BAD]);
    let strict = Strict::new(wire.clone(), Arc::new(no_linger()));
    let watch = strict.watch();
    let service = service_fn(async |_: Request<Incoming>| {
        Response::builder()
            .header("connection", "close")
            .body("the last".to_owned())
    });
    let mut driven = Driven::new(drive(http1::Builder::new().serve_connection(strict, service)));
    assert!(driven.run().unwrap().is_ok());
    assert_eq!(statuses(&wire.written()), [200]);
    assert!(wire.is_shut() && watch.refused().is_some());
}

#[test]
fn the_answer_to_head_has_no_content() {
    for parts in [
        &[&b"HEAD / HTTP/1.1\r\n"[..], b"\r\n"][..],
        &[GOOD, b"\r\nHEAD / HTTP/1.1\r\n\r\n"],
    ] {
        let wire = Wire::with(parts.iter().copied());
        let faucet = Faucet::default();
        let (mut driven, _) = connect(&wire, &faucet, no_linger(), false);
        faucet.finish();
        assert!(driven.run().unwrap().is_ok());
        assert!(wire.written().ends_with("\r\n\r\n"), "{}", wire.written());
        assert!(
            wire.written().contains("HTTP/1.1 400 Bad Request\r\n"),
            "{}",
            wire.written()
        );
    }
}

#[test]
fn the_answer_says_what_is_wrong() {
    let wire = Wire::with([BAD]);
    let (mut driven, _) = connect(&wire, &Faucet::default(), no_linger(), false);
    assert!(driven.run().unwrap().is_ok());
    let written = wire.written();
    assert!(
        written.starts_with("HTTP/1.1 400 Bad Request\r\ndate: "),
        "{written}"
    );
    assert!(written.contains("\r\nconnection: close\r\n"), "{written}");
    assert!(
        written.ends_with("\r\n\r\n400 Bad Request: two Host fields (RFC 9112, 3.2)\n"),
        "{written}"
    );
}

/// A client that takes its time to read gets all of the answer.
#[test]
fn the_answer_waits_for_room() {
    let wire = Wire::with([BAD]);
    wire.set_room(Some(0));
    let (mut driven, _) = connect(&wire, &Faucet::default(), no_linger(), false);
    assert!(driven.run().is_none());
    for _ in 0..1_000 {
        assert!(!wire.is_shut());
        wire.set_room(Some(1));
        if driven.run().is_some() {
            break;
        }
    }
    assert_eq!(statuses(&wire.written()), [400]);
    assert!(wire.is_shut());
}

#[test]
fn clients_that_end_within_a_head_are_told() {
    for (bytes, refused) in [
        (&b""[..], None),
        (b"\r", None),
        (b"\r\n", None),
        (b"G", Some(Fault::HeadCut)),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r", Some(Fault::HeadCut)),
    ] {
        for before in [&b""[..], GOOD] {
            let wire = Wire::with([before, bytes].into_iter().filter(|part| !part.is_empty()));
            let faucet = Faucet::default();
            let (mut driven, watch) = connect(&wire, &faucet, Config::default(), true);
            assert!(driven.run().is_none());
            faucet.finish();
            wire.end();
            assert!(driven.run().unwrap().is_ok());
            assert_eq!(watch.refused().map(|refused| refused.fault), refused);
            assert_eq!(
                wire.written().contains("HTTP/1.1 400"),
                refused.is_some(),
                "{}",
                shown(bytes)
            );
        }
    }
}

/// As hyper has it: a client that is gone ends a response under way, unless half-closed connections are wanted.
#[test]
fn clients_that_leave_are_noticed() {
    for half_close in [false, true] {
        let wire = Wire::with([GOOD]);
        let faucet = Faucet::default();
        let (mut driven, _) = connect(&wire, &faucet, Config::default(), half_close);
        assert!(driven.run().is_none());
        wire.end();
        assert_eq!(driven.run().is_some(), !half_close);
    }
}

/// Behind hyper's timeout for heads: one that has begun is answered, a connection that is only kept is closed.
#[test]
fn heads_that_take_too_long_are_told() {
    for (begun, expected) in [(&b"GET /slow HT"[..], Some(Fault::HeadTime)), (b"\r\n", None)] {
        let clock = Clock::default();
        let wire = Wire::with([GOOD, begun]);
        let strict = Strict::new(wire.clone(), Arc::new(no_linger()));
        let watch = strict.watch();
        let service =
            service_fn(async |_: Request<Incoming>| Ok::<_, Infallible>(Response::new(String::new())));
        let connection = http1::Builder::new()
            .timer(clock.clone())
            .header_read_timeout(Duration::from_secs(1))
            .serve_connection(strict, service);
        let mut driven = Driven::new(drive(connection));
        assert!(driven.run().is_none());
        clock.strike();
        assert!(driven.run().unwrap().unwrap_err().is_timeout());
        assert_eq!(watch.refused().map(|refused| refused.fault), expected);
        let answers = [&[200][..], expected.map_or(&[][..], |_| &[408])].concat();
        assert_eq!(statuses(&wire.written()), answers);
        assert!(wire.is_shut());
    }
}

#[test]
fn an_upgrade_that_is_ignored_changes_nothing() {
    let wire = Wire::with([
        &b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"[..],
        BAD,
    ]);
    let faucet = Faucet::default();
    let (mut driven, _) = connect(&wire, &faucet, Config::default(), false);
    faucet.finish();
    assert!(driven.run().unwrap().is_ok());
    assert!(
        wire.written().contains("0\r\n\r\nHTTP/1.1 400"),
        "{}",
        wire.written()
    );
    assert!(wire.is_shut());
}

#[test]
fn writes_stay_vectored() {
    let wire = Wire::with([GOOD]);
    let faucet = Faucet::default();
    let (mut driven, _) = connect(&wire, &faucet, Config::default(), false);
    faucet.push("a text that is not copied");
    assert!(driven.run().is_none());
    assert!(wire.vectored() > 0);
}

/// A clock that strikes when the test says so.
#[derive(Clone, Default)]
struct Clock(Arc<Mutex<(bool, Option<Waker>)>>);

impl Clock {
    fn strike(&self) {
        let mut state = self.0.lock().unwrap();
        state.0 = true;
        state.1.take().inspect(Waker::wake_by_ref);
    }
}

struct Alarm(Clock);

impl Future for Alarm {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.0.lock().unwrap();
        state.1 = Some(cx.waker().clone());
        match state.0 {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Sleep for Alarm {}

impl Timer for Clock {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Alarm(self.clone()))
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Alarm(self.clone()))
    }
}

fn lingering(clock: &Clock) -> Config {
    Config {
        timer: Some(Arc::new(clock.clone())),
        linger: Linger {
            bytes: 1_000,
            ..Linger::default()
        },
        ..Config::default()
    }
}

/// While the client may not have read the answer, what it sends is read: until it ends, or for a time, or so many bytes.
#[test]
fn connections_linger_after_a_refusal() {
    for ending in ["end", "time", "bytes"] {
        let clock = Clock::default();
        let wire = Wire::with([BAD]);
        let (mut driven, _) = connect(&wire, &Faucet::default(), lingering(&clock), false);
        assert!(driven.run().is_none(), "{ending}");
        assert!(wire.is_shut() && statuses(&wire.written()) == [400]);
        for _ in 0..9 {
            wire.send(&[b'x'; 100]);
            assert!(driven.run().is_none(), "{ending}");
            assert_eq!(wire.unread(), 0);
        }
        match ending {
            "end" => wire.end(),
            "time" => clock.strike(),
            _ => wire.send(&[b'x'; 100]),
        }
        assert!(driven.run().unwrap().is_ok(), "{ending}");
    }
}

/// The same for a body nobody wants, but not where there is nothing to wait for.
#[test]
fn connections_linger_where_a_client_still_sends() {
    let unread = b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\nhello";
    let closing = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for (request, lingers) in [(&unread[..], true), (closing, false)] {
        let clock = Clock::default();
        let wire = Wire::with([request]);
        let faucet = Faucet::default();
        let (mut driven, _) = connect(&wire, &faucet, lingering(&clock), false);
        faucet.finish();
        assert_eq!(driven.run().is_none(), lingers);
        assert!(wire.is_shut());
    }
}

/// A client that neither reads nor goes is not waited for longer than one that sends.
#[test]
fn the_answer_is_not_forced_upon_anybody() {
    let clock = Clock::default();
    let wire = Wire::with([BAD]);
    wire.set_room(Some(0));
    let (mut driven, _) = connect(&wire, &Faucet::default(), lingering(&clock), false);
    assert!(driven.run().is_none());
    clock.strike();
    assert!(driven.run().is_some());
}

#[test]
fn without_a_clock_nobody_is_waited_for() {
    let wire = Wire::with([BAD, &[b'x'; 100]]);
    let (mut driven, _) = connect(&wire, &Faucet::default(), Config::default(), false);
    assert!(driven.run().is_some());
    assert_eq!(wire.unread(), 0);
}

/// The reader of a body is told at once, and has all that was right before it.
#[test]
fn a_refused_body_is_an_error_for_its_reader() {
    let wire = Wire::with([
        &b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"[..],
        b"4\r\nmoreX",
    ]);
    let read = Rc::new(RefCell::new((Vec::new(), None)));
    let service = service_fn(|mut request: Request<Incoming>| {
        let read = read.clone();
        async move {
            while let Some(frame) = request.body_mut().frame().await {
                match frame {
                    Ok(frame) => read.borrow_mut().0.extend(frame.into_data().unwrap()),
                    Err(error) => read.borrow_mut().1 = Refused::find(&error).copied(),
                }
            }
            Ok::<_, Infallible>(Response::new("an answer".to_owned()))
        }
    });
    let strict = Strict::new(wire.clone(), Arc::new(Config::default()));
    let mut driven = Driven::new(drive(http1::Builder::new().serve_connection(strict, service)));
    assert!(driven.run().unwrap().is_ok());
    assert_eq!(read.borrow().0, b"hellomore");
    assert_eq!(
        read.borrow().1.map(|refused| refused.fault),
        Some(Fault::ChunkEnd)
    );
    assert_eq!(statuses(&wire.written()), [200]);
    assert!(wire.is_shut());
}

#[test]
fn watches_follow() {
    let wire = Wire::default();
    let faucet = Faucet::default();
    let (mut driven, watch) = connect(&wire, &faucet, Config::default(), false);
    let mut step = |bytes: &[u8]| {
        wire.send(bytes);
        assert!(driven.run().is_none());
        (watch.phase(), watch.requests())
    };
    assert_eq!(step(b"\r\n"), (Phase::Idle, 0));
    assert_eq!(step(&POST[..10]), (Phase::Head, 0));
    assert_eq!(step(&POST[10..POST.len() - 1]), (Phase::Body, 1));
    assert_eq!(step(b"o"), (Phase::Idle, 1));
    assert_eq!(step(&GOOD[..1]), (Phase::Head, 1));
    faucet.finish();
    assert_eq!(step(&GOOD[1..]), (Phase::Idle, 2));
    assert_eq!(watch.refused(), None);
}

#[test]
fn http2_passes_where_it_may() {
    let bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for (http2, expected) in [(true, &bytes[..]), (false, b"")] {
        let config = Config {
            http2,
            ..Config::default()
        };
        for parts in [vec![&bytes[..]], bytes.chunks(1).collect()] {
            assert_eq!(read_all(&parts, config.clone(), 100).0, expected);
        }
    }
}

/// Reads a stream to its end, so many bytes at a time.
fn read_all(parts: &[&[u8]], config: Config, room: usize) -> (Vec<u8>, Option<Refused>) {
    let wire = Wire::with(parts.iter().copied());
    wire.end();
    let mut strict = Strict::new(wire, Arc::new(config));
    let mut all = Vec::new();
    let mut bytes = vec![0; room];
    let failed = Driven::new(poll_fn(|cx| {
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            match Pin::new(&mut strict).poll_read(cx, buf.unfilled()) {
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(None),
                Poll::Ready(Ok(())) => all.extend_from_slice(buf.filled()),
                Poll::Ready(Err(error)) => return Poll::Ready(Some(*Refused::find(&error).unwrap())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }))
    .run()
    .expect("it ends");
    (all, failed)
}

/// Whatever comes together, and however little its reader takes at a time: it gets what the checker passes.
#[test]
fn readers_get_what_the_checker_passes() {
    let mut random = Random::new(11);
    for case in valid::cases().into_iter().chain(invalid::cases()) {
        for repeats in [1, 2] {
            let bytes = case.raw.repeat(repeats);
            let expected = crate::parts::outcome_of(Checker::new(&Limits::default()), [&bytes[..]]);
            for room in [1, 2, 3, 7, 8192] {
                for parts in [vec![&bytes[..]], random.parts(&bytes)] {
                    let (all, failed) = read_all(&parts, Config::default(), room);
                    let error = expected
                        .refused
                        .or(expected.at_eof)
                        .filter(|refused| refused.in_body);
                    assert_eq!(failed, error, "{}: {}", case.name, shown(&bytes));
                    // hyper skips the empty line with which it is asked what it wants.
                    let asked = [&expected.passed[..], b"\r\n"].concat();
                    let ends = expected.ended || expected.refused.or(expected.at_eof).is_some();
                    let right = all == expected.passed
                        || (ends && all.len() < 3 + expected.passed.len() && asked.starts_with(&all));
                    assert!(right, "{}: {} of {}", case.name, shown(&all), shown(&bytes));
                }
            }
        }
    }
}
