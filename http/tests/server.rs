//! A server over real sockets, with applications in Rust.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use roving_http::{BodyError, Chunk, Config, Exchange, Head, Listener, Server, Written};
use roving_runtime::net::TcpListener;
use roving_runtime::{Runtime, sync::Event};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);

struct Serving {
    server: Server,
    address: SocketAddr,
    // Goes last.
    runtime: Runtime,
}

/// Serves an application, in a fiber a request.
fn serve(config: Config, application: impl Fn(Exchange) + Send + Sync + Clone + 'static) -> Serving {
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = Server::start(
        runtime.handle(),
        vec![Listener::Tcp(listener)],
        config,
        move |exchange| {
            let application = application.clone();
            roving_runtime::spawn(move || application(exchange));
        },
    );
    Serving {
        server,
        address,
        runtime,
    }
}

impl Serving {
    fn client(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(WAIT)).expect("it is no zero");
        BufReader::new(stream)
    }

    fn stop(self) {
        self.server.stop();
        assert!(self.server.wait(Some(Instant::now() + WAIT)).expect("no fiber"));
        self.runtime.shutdown(roving_runtime::DropPolicy::Drain);
    }
}

fn send(client: &mut BufReader<TcpStream>, text: &str) {
    client.get_mut().write_all(text.as_bytes()).expect("it is open");
}

/// Reads a response with a length: its status, its fields and its body.
fn response(client: &mut BufReader<TcpStream>) -> (u16, Vec<String>, Vec<u8>) {
    let mut line = String::new();
    client.read_line(&mut line).expect("a status");
    let status = line.split(' ').nth(1).and_then(|text| text.parse().ok());
    let (mut fields, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        client.read_line(&mut line).expect("a field");
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some(text) = line.strip_prefix("content-length: ") {
            length = text.parse().expect("a number");
        }
        fields.push(line.to_owned());
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body).expect("a body");
    (status.expect("a status"), fields, body)
}

fn is_closed(client: &mut BufReader<TcpStream>) -> bool {
    !matches!(client.read(&mut [0]), Ok(1))
}

fn hello(mut exchange: Exchange) {
    let _ = exchange
        .responder
        .send(Head::default(), Bytes::from_static(b"hello"));
}

/// Reads all of a body, or says why it cannot.
fn read_all(exchange: &mut Exchange) -> Result<usize, BodyError> {
    let mut count = 0;
    loop {
        match exchange.body.next(None).expect("nobody cancels") {
            Ok(Chunk::Data(data)) => count += data.len(),
            Ok(Chunk::End) => return Ok(count),
            Ok(Chunk::TimedOut) => unreachable!("there is no deadline"),
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn answers_one_after_another() {
    let serving = serve(Config::default(), hello);
    let mut client = serving.client();
    for _ in 0..100 {
        send(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(response(&mut client).2, b"hello");
    }
    send(
        &mut client,
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    );
    assert_eq!(response(&mut client).0, 200);
    assert!(is_closed(&mut client));
    serving.stop();
}

#[test]
fn many_connections_at_once() {
    let serving = serve(Config::default(), hello);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut client = serving.client();
                    for _ in 0..5 {
                        send(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
                        assert_eq!(response(&mut client).2, b"hello");
                    }
                }
            });
        }
    });
    serving.stop();
}

#[test]
fn a_responder_that_is_dropped_answers_500() {
    let serving = serve(Config::default(), |exchange: Exchange| drop(exchange));
    let mut client = serving.client();
    for _ in 0..2 {
        send(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(response(&mut client).0, 500);
    }
    serving.stop();
}

#[test]
fn an_application_that_panics_answers_500() {
    let serving = serve(Config::default(), |_exchange: Exchange| panic!("on purpose"));
    let mut client = serving.client();
    for _ in 0..2 {
        send(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(response(&mut client).0, 500);
    }
    serving.stop();
}

#[test]
fn a_stream_that_is_dropped_breaks_the_connection_off() {
    let serving = serve(Config::default(), |mut exchange: Exchange| {
        let _ = exchange.responder.start(Head::default(), None);
        let _ = exchange.responder.write(Bytes::from_static(b"part"));
    });
    let mut client = serving.client();
    send(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut text = String::new();
    client.read_to_string(&mut text).expect("an end");
    assert!(text.ends_with("\r\n\r\n4\r\npart\r\n"), "{text}");
    serving.stop();
}

#[test]
fn a_stream_of_known_length() {
    let serving = serve(Config::default(), |mut exchange: Exchange| {
        let mut head = Head {
            status: StatusCode::CREATED,
            ..Head::default()
        };
        head.headers.insert("x-field", HeaderValue::from_static("1"));
        let _ = exchange.responder.start(head, Some(8));
        for part in ["some", "more"] {
            assert_eq!(exchange.responder.wait_for_room(None), Ok(Written::Room));
            let _ = exchange.responder.write(Bytes::from(part));
        }
        exchange.responder.finish();
    });
    let mut client = serving.client();
    for _ in 0..2 {
        send(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let (status, fields, body) = response(&mut client);
        assert_eq!((status, body.as_slice()), (201, b"somemore".as_slice()));
        assert!(fields.contains(&"x-field: 1".to_owned()));
    }
    serving.stop();
}

#[test]
fn a_writer_waits_for_its_client_and_learns_that_it_went() {
    let (said, hear) = mpsc::channel();
    let said = Arc::new(Mutex::new(said));
    let serving = serve(Config::default(), move |mut exchange: Exchange| {
        let _ = exchange.responder.start(Head::default(), None);
        let mut written = 0;
        loop {
            let soon = Some(Instant::now() + Duration::from_millis(200));
            match exchange.responder.wait_for_room(soon).expect("nobody cancels") {
                Written::Room => {
                    written += 16 << 10;
                    let _ = exchange.responder.write(Bytes::from(vec![0; 16 << 10]));
                }
                Written::TimedOut => {
                    // It is full: far below what an endless body would be.
                    said.lock().expect("no panic").send(written).expect("heard");
                    let gone = exchange.responder.wait_for_room(Some(Instant::now() + WAIT));
                    assert_eq!(gone, Ok(Written::Gone));
                    assert!(exchange.responder.is_gone());
                    said.lock().expect("no panic").send(0).expect("heard");
                    return;
                }
                Written::Gone => panic!("it takes nothing, but it is there"),
            }
        }
    });
    let mut client = serving.client();
    send(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(hear.recv_timeout(WAIT).expect("it fills") < 64 << 20);
    drop(client);
    assert_eq!(hear.recv_timeout(WAIT), Ok(0));
    serving.stop();
}

#[test]
fn a_hook_is_called_when_the_client_goes() {
    let config = Config {
        half_close: false,
        ..Config::default()
    };
    let (said, hear) = mpsc::channel();
    let said = Arc::new(Mutex::new(said));
    let serving = serve(config, move |mut exchange: Exchange| {
        let gone = Arc::new(Event::new());
        let hook = gone.clone();
        let streams = exchange.request.uri.path() == "/stream";
        exchange.responder.on_gone(move || hook.set());
        if streams {
            let _ = exchange.responder.start(Head::default(), None);
            let _ = exchange.responder.write(Bytes::from_static(b"part"));
        }
        said.lock().expect("no panic").send("begun").expect("heard");
        let _ = gone.wait();
        said.lock().expect("no panic").send("gone").expect("heard");
    });
    for path in ["/", "/stream"] {
        let mut client = serving.client();
        send(&mut client, &format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert_eq!(hear.recv_timeout(WAIT), Ok("begun"));
        drop(client);
        assert_eq!(hear.recv_timeout(WAIT), Ok("gone"));
    }
    serving.stop();
}

#[test]
fn bodies_are_read_to_their_end_or_fail() {
    let (said, hear) = mpsc::channel();
    let said = Arc::new(Mutex::new(said));
    let config = Config {
        max_body: Some(1 << 20),
        ..Config::default()
    };
    let serving = serve(config, move |mut exchange: Exchange| {
        let outcome = read_all(&mut exchange);
        // It stays so.
        assert_eq!(read_all(&mut exchange).is_err(), outcome.is_err());
        said.lock().expect("no panic").send(outcome).expect("heard");
        hello(exchange);
    });
    let mut client = serving.client();
    send(
        &mut client,
        &format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n{}",
            "x".repeat(300_000)
        ),
    );
    assert_eq!(response(&mut client).0, 200);
    assert_eq!(hear.recv_timeout(WAIT), Ok(Ok(300_000)));
    send(
        &mut client,
        &format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n{}",
            "x".repeat(100_000)
        ),
    );
    drop(client);
    assert!(matches!(hear.recv_timeout(WAIT), Ok(Err(BodyError::Broken(_)))));
    let mut client = serving.client();
    send(
        &mut client,
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let chunk = format!("{:x}\r\n{}\r\n", 70_000, "x".repeat(70_000));
    for _ in 0..20 {
        // It may stop reading on the way.
        let _ = client.get_mut().write_all(chunk.as_bytes());
    }
    assert_eq!(hear.recv_timeout(WAIT), Ok(Err(BodyError::TooLarge(1 << 20))));
    serving.stop();
}

#[test]
fn turns_are_kept() {
    let gate = Arc::new(Event::new());
    let inside = gate.clone();
    let config = Config {
        in_flight: 1,
        queue: 1,
        ..Config::default()
    };
    let (said, hear) = mpsc::channel();
    let said = Arc::new(Mutex::new(said));
    let serving = serve(config, move |exchange: Exchange| {
        said.lock().expect("no panic").send(()).expect("heard");
        let _ = inside.wait();
        hello(exchange);
    });
    let (mut first, mut second, mut third) = (serving.client(), serving.client(), serving.client());
    send(&mut first, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    hear.recv_timeout(WAIT).expect("it begins");
    send(&mut second, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    while serving.server.statistics().queued == 0 {
        std::thread::yield_now();
    }
    send(&mut third, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let (status, fields, _) = response(&mut third);
    assert_eq!(status, 503);
    assert!(fields.contains(&"retry-after: 1".to_owned()));
    gate.set();
    for client in [&mut first, &mut second] {
        assert_eq!(response(client).2, b"hello");
    }
    assert_eq!(serving.server.statistics().refused, 1);
    serving.stop();
}

#[test]
fn stopping_finishes_and_cutting_does_not() {
    for cut in [false, true] {
        let gate = Arc::new(Event::new());
        let inside = gate.clone();
        let (said, hear) = mpsc::channel();
        let said = Arc::new(Mutex::new(said));
        let serving = serve(Config::default(), move |exchange: Exchange| {
            said.lock().expect("no panic").send(()).expect("heard");
            let _ = inside.wait();
            hello(exchange);
        });
        let (mut idle, mut busy) = (serving.client(), serving.client());
        send(&mut busy, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        hear.recv_timeout(WAIT).expect("it begins");
        serving.server.stop();
        assert!(is_closed(&mut idle));
        let soon = Some(Instant::now() + Duration::from_millis(20));
        assert!(!serving.server.wait(soon).expect("no fiber"));
        if cut {
            serving.server.cut();
            assert!(is_closed(&mut busy));
        }
        gate.set();
        if !cut {
            assert_eq!(response(&mut busy).2, b"hello");
            assert!(is_closed(&mut busy));
        }
        serving.stop();
    }
}

#[test]
fn a_server_that_hands_over_leaves_nobody_unanswered() {
    let gate = Arc::new(Event::new());
    let inside = gate.clone();
    let (said, hear) = mpsc::channel();
    let said = Arc::new(Mutex::new(said));
    let old = serve(Config::default(), move |exchange: Exchange| {
        if exchange.request.uri.path() == "/wait" {
            said.lock().expect("no panic").send(()).expect("heard");
            let _ = inside.wait();
        }
        hello(exchange);
    });
    let (mut fresh, mut idle, mut busy) = (old.client(), old.client(), old.client());
    send(&mut idle, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(!response(&mut idle).1.contains(&"connection: close".to_owned()));
    send(&mut busy, "GET /wait HTTP/1.1\r\nhost: a\r\n\r\n");
    hear.recv_timeout(WAIT).expect("it begins");
    // The first has been accepted by now: one that connected after it has been answered.
    let mut later = old.client();
    send(
        &mut later,
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    );
    assert_eq!(response(&mut later).2, b"hello");
    old.server.hand_over();
    let soon = Some(Instant::now() + Duration::from_millis(20));
    assert!(!old.server.wait(soon).expect("no fiber"));
    gate.set();
    // One that has said nothing yet, one that waits for its client, one whose request is with the application.
    for (client, asks) in [(&mut fresh, true), (&mut idle, true), (&mut busy, false)] {
        if asks {
            send(client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        }
        let (status, fields, body) = response(client);
        assert_eq!((status, &body[..]), (200, &b"hello"[..]));
        assert!(fields.contains(&"connection: close".to_owned()));
        assert!(is_closed(client));
    }
    assert!(old.server.wait(Some(Instant::now() + WAIT)).expect("no fiber"));
    old.stop();
}

/// A response in parts, the first of which goes when the client has ended its side.
fn parts_after_the_end(mut exchange: Exchange) {
    assert_eq!(read_all(&mut exchange), Ok(5));
    let _ = exchange.responder.start(Head::default(), Some(300_000));
    for _ in 0..3 {
        if exchange.responder.wait_for_room(None) != Ok(Written::Room) {
            return;
        }
        let _ = exchange.responder.write(Bytes::from(vec![b'x'; 100_000]));
    }
    exchange.responder.finish();
}

const HALF: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";

#[test]
fn a_client_that_ends_its_sending_half_gets_its_responses() {
    let (go, gone) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let begun = Arc::new(Event::new());
    let (open, hook, called) = (go.clone(), gone.clone(), begun.clone());
    let config = Config {
        // The end of the connection is the end of the client's, not that of its time.
        keep_alive: WAIT,
        ..Config::default()
    };
    let serving = serve(config, move |exchange: Exchange| {
        let hook = hook.clone();
        exchange.responder.on_gone(move || hook.set());
        called.set();
        open.wait().expect("nobody cancels");
        parts_after_the_end(exchange);
    });
    // One, and two of them one behind the other.
    for count in [1, 2] {
        go.clear();
        begun.clear();
        let mut client = serving.client();
        send(&mut client, &HALF.repeat(count));
        assert!(begun.wait_timeout(WAIT).expect("no fiber"));
        client.get_ref().shutdown(Shutdown::Write).expect("it is open");
        let is_gone = gone.wait_timeout(Duration::from_millis(50));
        go.set();
        assert!(!is_gone.expect("no fiber"));
        for _ in 0..count {
            let (status, _, body) = response(&mut client);
            assert_eq!((status, body.len()), (200, 300_000));
        }
        let began = Instant::now();
        assert!(is_closed(&mut client));
        assert!(began.elapsed() < WAIT / 2);
        assert!(!gone.is_set());
    }
    serving.stop();
}

#[test]
fn where_it_counts_as_gone_it_is() {
    let gone = Arc::new(Event::new());
    let hook = gone.clone();
    let config = Config {
        half_close: false,
        ..Config::default()
    };
    let serving = serve(config, move |exchange: Exchange| {
        let hook = hook.clone();
        exchange.responder.on_gone(move || hook.set());
        while !exchange.responder.is_gone() {
            roving_runtime::sleep(Duration::from_millis(1)).expect("nobody cancels");
        }
    });
    let mut client = serving.client();
    send(&mut client, HALF);
    client.get_ref().shutdown(Shutdown::Write).expect("it is open");
    assert!(gone.wait_timeout(WAIT).expect("no fiber"));
    assert!(is_closed(&mut client));
    serving.stop();
}

#[test]
fn the_connection_of_a_client_that_ends_its_half_ends_after_its_response() {
    let (go, begun) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (open, called) = (go.clone(), begun.clone());
    let config = Config {
        keep_alive: WAIT,
        ..Config::default()
    };
    let serving = serve(config, move |exchange: Exchange| {
        called.set();
        open.wait().expect("nobody cancels");
        hello(exchange);
    });
    let mut client = serving.client();
    send(&mut client, HALF);
    assert!(begun.wait_timeout(WAIT).expect("no fiber"));
    client.get_ref().shutdown(Shutdown::Write).expect("it is open");
    // Until the end has been read: nothing tells.
    std::thread::sleep(Duration::from_millis(50));
    go.set();
    assert_eq!(response(&mut client).2, b"hello");
    // Not only when its time is up.
    let began = Instant::now();
    assert!(is_closed(&mut client));
    assert!(began.elapsed() < WAIT / 2);
    serving.stop();
}
