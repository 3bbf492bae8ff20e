//! The corpus over real sockets: a server of this crate, and clients that send raw bytes.
//!
//! Cuts are made over Unix sockets, which tell when the other side has read what was sent: so each part is a read of its own.

use crate::draft::{Case, Expect, Seen};
use crate::parts::{Random, whole};
use crate::serving::sorted;
use crate::{invalid, shown, valid};
use bytes::Bytes;
use roving_http::{BodyError, Chunk, Config, Exchange, Head, Listener, Server};
use roving_runtime::net::{TcpListener, UnixListener};
use roving_runtime::{DropPolicy, Runtime};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);

/// Asked behind another request, it ends the connection.
const LAST: &[u8] = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
/// Sent behind what is refused, nobody may hear of it.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// The application was called with these; bodies are empty when they could not be read.
type Calls = Arc<Mutex<Vec<Seen>>>;

struct Serving {
    server: Server,
    calls: Calls,
    tcp: SocketAddr,
    unix: PathBuf,
    /// Until it stops.
    runtime: Option<Runtime>,
}

/// Reads all of a body; the status of what is wrong with it.
fn read_all(exchange: &mut Exchange) -> Result<Vec<u8>, u16> {
    let mut body = Vec::new();
    loop {
        match exchange.body.next(None).expect("nobody cancels") {
            Ok(Chunk::Data(data)) => body.extend_from_slice(&data),
            Ok(Chunk::End) => return Ok(body),
            Ok(Chunk::TimedOut) => unreachable!("there is no deadline"),
            Err(BodyError::TooLarge(_)) => return Err(413),
            Err(_) => return Err(400),
        }
    }
}

impl Serving {
    fn new(name: &str) -> Self {
        let runtime = Runtime::builder().workers(2).build().expect("a runtime");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = tcp.local_addr().expect("an address");
        let unix = std::env::temp_dir().join(format!("roving-{}-{name}.sock", std::process::id()));
        let _ = std::fs::remove_file(&unix);
        let listeners = vec![
            Listener::Tcp(tcp),
            Listener::Unix(UnixListener::bind(&unix).expect("a path")),
        ];
        let config = Config {
            // As the table has it.
            max_body: Some(1 << 30),
            http2: false,
            ..Config::default()
        };
        let calls = Calls::default();
        let heard = calls.clone();
        let application = move |mut exchange: Exchange| {
            let head = &exchange.request;
            let seen = Seen {
                method: head.method.to_string(),
                target: head.uri.to_string(),
                version: format!("{:?}", head.version),
                fields: sorted(&head.headers),
                ..Seen::default()
            };
            // Here and not in the fiber: when the connection has ended nobody comes late.
            let index = {
                let mut calls = heard.lock().expect("nobody panics");
                calls.push(seen);
                calls.len() - 1
            };
            let heard = heard.clone();
            roving_runtime::spawn(move || {
                let mut head = Head::default();
                match read_all(&mut exchange) {
                    Ok(body) => heard.lock().expect("nobody panics")[index].body = body,
                    Err(status) => head.status = status.try_into().expect("a status"),
                }
                let _ = exchange.responder.send(head, Bytes::from_static(b"ok"));
            });
        };
        Self {
            server: Server::start(runtime.handle(), listeners, config, application),
            calls,
            tcp: address,
            unix,
            runtime: Some(runtime),
        }
    }

    /// Sends parts on a connection of their own, and reads until the server closes it: the statuses, and the calls it came to.
    fn ask(&self, name: &str, parts: &[&[u8]]) -> (Vec<u16>, Vec<Seen>) {
        let answer = match parts {
            [all] => {
                let mut client = TcpStream::connect(self.tcp).expect("it listens");
                client.set_read_timeout(Some(WAIT)).expect("it is no zero");
                let _ = client.write_all(all);
                read(name, client)
            }
            parts => {
                let mut client = UnixStream::connect(&self.unix).expect("it listens");
                client.set_read_timeout(Some(WAIT)).expect("it is no zero");
                for part in parts {
                    // It may have been refused, and the connection closed, by what came before.
                    if client.write_all(part).is_err() {
                        break;
                    }
                    wait_until_read(&client);
                }
                read(name, client)
            }
        };
        let calls = std::mem::take(&mut *self.calls.lock().expect("nobody panics"));
        (statuses(&answer), calls)
    }

    fn stop(mut self) {
        self.server.stop();
        assert!(self.server.wait(Some(Instant::now() + WAIT)).expect("no fiber"));
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown(DropPolicy::Drain);
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // After a failure: the runtime would wait for connections.
        self.server.cut();
        let _ = std::fs::remove_file(&self.unix);
    }
}

/// Reads to the end, which has to come.
fn read(name: &str, mut client: impl Read) -> String {
    let mut answer = Vec::new();
    if let Err(error) = client.read_to_end(&mut answer) {
        panic!("{name}: {error}, after {}", shown(&answer));
    }
    String::from_utf8(answer).expect("it is ASCII")
}

/// Waits until the other side has read all that was written.
fn wait_until_read(client: &UnixStream) {
    let limit = Instant::now() + WAIT;
    loop {
        let mut unread: libc::c_int = 0;
        // SAFETY: an open socket, and a place for the answer.
        let done = unsafe { libc::ioctl(client.as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
        assert_eq!(done, 0);
        if unread == 0 {
            return;
        }
        assert!(Instant::now() < limit, "nobody reads");
        std::thread::yield_now();
    }
}

/// The statuses of the final responses, which all have a length.
fn statuses(mut answer: &str) -> Vec<u16> {
    let mut found = Vec::new();
    while !answer.is_empty() {
        let (head, rest) = answer.split_once("\r\n\r\n").expect("a whole head");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status: u16 = status.and_then(|text| text.parse().ok()).expect("a status");
        let length = lines.find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |text| text.parse().expect("a number"));
        answer = &rest[length..];
        if status != 100 {
            found.push(status);
        }
    }
    found
}

/// What the application should see: it is told of no trailers.
fn expected(case: &Case) -> Seen {
    match &case.expect {
        Expect::Passes(seen) => Seen {
            trailers: Vec::new(),
            ..seen.clone()
        },
        _ => panic!("{} is a refusal", case.name),
    }
}

fn is_last(raw: &[u8]) -> bool {
    !whole(raw).heads[0].keep_alive
}

/// A valid request, and where the connection goes on another one behind it: both are answered, and understood.
fn check_valid(serving: &Serving, case: &Case, cut: impl Fn(&[u8]) -> Vec<Vec<u8>>) {
    let raw = match is_last(&case.raw) {
        true => case.raw.clone(),
        false => [&case.raw[..], LAST].concat(),
    };
    let parts = cut(&raw);
    let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
    let (statuses, mut calls) = serving.ask(&case.name, &parts);
    let name = format!("{}: {}", case.name, shown(&raw));
    if !is_last(&case.raw) {
        assert_eq!(
            calls.pop().map(|seen| seen.target).as_deref(),
            Some("/last"),
            "{name}"
        );
        assert_eq!(statuses, [200, 200], "{name}");
    } else {
        assert_eq!(statuses, [200], "{name}");
    }
    assert_eq!(calls, [expected(case)], "{name}");
}

/// An invalid request with another behind it: it is answered, the connection is closed, and nobody hears of the other.
fn check_invalid(serving: &Serving, case: &Case, cut: impl Fn(&[u8]) -> Vec<Vec<u8>>) {
    let raw = [&case.raw[..], SMUGGLED].concat();
    let parts = cut(&raw);
    let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
    let (statuses, calls) = serving.ask(&case.name, &parts);
    let name = format!("{}: {}", case.name, shown(&raw));
    let (status, most) = match case.expect {
        Expect::Head(status, _) => (status, 0),
        // Where it is found amid the body the application may have been called; it got no body then.
        Expect::Body(status, _) => (status, 1),
        Expect::Passes(_) => panic!("{name} is no refusal"),
    };
    assert_eq!(statuses, [status], "{name}");
    assert!(calls.len() <= most, "{name}: {calls:?}");
    assert!(calls.iter().all(|seen| seen.target != "/smuggled"), "{name}");
    assert!(calls.iter().all(|seen| seen.body.is_empty()), "{name}");
}

fn in_one(raw: &[u8]) -> Vec<Vec<u8>> {
    vec![raw.to_vec()]
}

fn by_bytes(raw: &[u8]) -> Vec<Vec<u8>> {
    raw.chunks(1).map(<[u8]>::to_vec).collect()
}

/// At how many places of each request it is cut in two; all of them, where that is more. `make stress` asks for that.
fn cuts() -> usize {
    let asked = std::env::var("ROVING_CORPUS_CUTS").ok();
    asked.map_or(2, |text| text.parse().expect("ROVING_CORPUS_CUTS is a number"))
}

/// Places to cut at.
fn places(random: &mut Random, length: usize) -> Vec<usize> {
    match cuts() {
        some if some < length - 1 => (0..some).map(|_| 1 + random.below(length - 1)).collect(),
        _ => (1..length).collect(),
    }
}

/// Half of the cases, in a thread with a server of its own.
fn in_halves(name: &str, cases: &[Case], check: impl Fn(&Serving, &Case, &mut Random) + Sync) {
    std::thread::scope(|scope| {
        for half in 0..2 {
            let check = &check;
            scope.spawn(move || {
                let serving = Serving::new(&format!("{name}-{half}"));
                let mut random = Random::new(half as u64 + 11);
                for case in cases.iter().skip(half).step_by(2) {
                    check(&serving, case, &mut random);
                }
                serving.stop();
            });
        }
    });
}

#[test]
fn what_is_valid_is_served() {
    let cases = valid::cases();
    in_halves("valid", &cases, |serving, case, random| {
        check_valid(serving, case, in_one);
        check_valid(serving, case, by_bytes);
        for at in places(random, case.raw.len()) {
            check_valid(serving, case, |raw| vec![raw[..at].to_vec(), raw[at..].to_vec()]);
        }
    });
}

#[test]
fn what_is_invalid_is_refused_and_nobody_hears_of_what_follows() {
    let cases = invalid::cases();
    in_halves("invalid", &cases, |serving, case, random| {
        check_invalid(serving, case, in_one);
        check_invalid(serving, case, by_bytes);
        for at in places(random, case.raw.len()) {
            check_invalid(serving, case, |raw| vec![raw[..at].to_vec(), raw[at..].to_vec()]);
        }
    });
}

/// Some valid ones, an invalid one, and a request behind it, cut anywhere.
#[test]
fn pipelines_end_with_what_is_invalid() {
    let serving = Serving::new("pipelines");
    let good: Vec<_> = valid::cases()
        .into_iter()
        .filter(|case| !is_last(&case.raw))
        .collect();
    let bad = invalid::cases();
    let mut random = Random::new(13);
    for round in 0..(100 * cuts()).min(5_000) {
        let first: Vec<_> = (0..1 + random.below(4))
            .map(|_| &good[random.below(good.len())])
            .collect();
        let last = &bad[random.below(bad.len())];
        let bytes: Vec<u8> = first
            .iter()
            .flat_map(|case| case.raw.clone())
            .chain(last.raw.clone())
            .chain(SMUGGLED.to_vec())
            .collect();
        let parts = match round % 2 {
            0 => vec![&bytes[..]],
            _ => random.parts(&bytes),
        };
        let name = format!("round {round}: {} valid, then {}", first.len(), last.name);
        let (statuses, mut calls) = serving.ask(&name, &parts);
        let name = format!("{name}: {}", shown(&bytes));
        let status = match last.expect {
            Expect::Head(status, _) | Expect::Body(status, _) => status,
            Expect::Passes(_) => panic!("{name} is no refusal"),
        };
        assert_eq!(
            statuses,
            [vec![200; first.len()], vec![status]].concat(),
            "{name}"
        );
        let more = calls.split_off(first.len());
        let before: Vec<_> = first.iter().map(|case| expected(case)).collect();
        assert_eq!(calls, before, "{name}");
        assert!(more.iter().all(|seen| seen.target != "/smuggled"), "{name}");
        assert!(
            more.is_empty() || matches!(last.expect, Expect::Body(..)),
            "{name}: {more:?}"
        );
    }
    serving.stop();
}
