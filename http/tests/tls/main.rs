//! TLS over real sockets: a server, and a client whose bytes the tests cut, stop and change as they like.
//!
//! The certificates beside this file sign themselves, are for `localhost`, and are good for a hundred years; their keys are
//! secret to nobody.

mod client;

use bytes::Bytes;
use client::Client;
use roving_http::{BodyError, Chunk, Config, Endpoint, Exchange, Head, Listener, Server, Tls, TlsFiles};
use roving_runtime::Runtime;
use roving_runtime::net::TcpListener;
use std::fmt::Display;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);

/// What the application has seen.
#[derive(Debug, PartialEq)]
enum Seen {
    Body(Vec<u8>),
    Broken(Vec<u8>),
    TurnedAway(String),
}

struct Application(Mutex<Sender<Seen>>);

impl roving_http::Application for Application {
    fn call(&self, _: &roving_runtime::Handle, mut exchange: Exchange) {
        let seen = self.0.lock().expect("nobody panics").clone();
        roving_runtime::spawn(move || {
            let mut body = Vec::new();
            loop {
                match exchange.body.next(None).expect("nobody cancels") {
                    Ok(Chunk::Data(data)) => body.extend_from_slice(&data),
                    Ok(Chunk::TimedOut) => unreachable!("there is no deadline"),
                    Ok(Chunk::End) => break seen.send(Seen::Body(body)),
                    Err(BodyError::Broken(_)) => return seen.send(Seen::Broken(body)).expect("it listens"),
                    Err(error) => panic!("{error}"),
                }
            }
            .expect("it listens");
            let _ = exchange
                .responder
                .send(Head::default(), Bytes::from_static(b"hello"));
        });
    }

    fn refused(&self, _: &Endpoint, why: &dyn Display) {
        let why = why.to_string();
        // Of bodies that break off the application tells.
        if why.starts_with("the TLS handshake failed") {
            let seen = self.0.lock().expect("nobody panics");
            seen.send(Seen::TurnedAway(why)).expect("it listens");
        }
    }
}

struct Serving {
    server: Server,
    seen: Receiver<Seen>,
    address: SocketAddr,
    key: &'static str,
    // Goes last.
    runtime: Runtime,
}

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

fn serve(key: &'static str, config: Config) -> Serving {
    let config = Config {
        // The application is called with the head, whatever becomes of the body.
        prefetch: 0,
        ..config
    };
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let files = TlsFiles {
        certificate: file(&format!("{key}.pem")),
        key: Some(file(&format!("{key}.key"))),
        ..TlsFiles::default()
    };
    let tls = Tls::load(files, config.http2).expect("they are good");
    let (sender, seen) = channel();
    let server = Server::start(
        runtime.handle(),
        vec![Listener::Tcp(listener)],
        Config {
            tls: Some(Arc::new(tls)),
            ..config
        },
        Application(Mutex::new(sender)),
    );
    Serving {
        server,
        seen,
        address,
        key,
        runtime,
    }
}

impl Serving {
    fn client(&self) -> Client {
        Client::new(self.address, &file(&format!("{}.pem", self.key)), &[])
    }

    fn seen(&self) -> Seen {
        self.seen.recv_timeout(WAIT).expect("something happens")
    }

    fn stop(self) {
        self.server.stop();
        assert!(self.server.wait(Some(Instant::now() + WAIT)).expect("no fiber"));
        self.runtime.shutdown(roving_runtime::DropPolicy::Drain);
    }
}

#[test]
fn records_come_in_pieces() {
    // The handshake with RSA is the blocking pool's.
    for key in ["ec", "rsa"] {
        let serving = serve(key, Config::default());
        for piece in [1, 2, 5, 7, 100] {
            let mut client = serving.client();
            client.piece = piece;
            client.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc");
            let response = client.read_to_end().expect("it ends as it should");
            assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n") && response.ends_with(b"\r\n\r\nhello"));
            assert_eq!(serving.seen(), Seen::Body(b"abc".to_vec()));
        }
        serving.stop();
    }
}

#[test]
fn a_response_is_one_record_and_the_end_is_told() {
    let serving = serve("ec", Config::default());
    let mut client = serving.client();
    client.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    // Behind the handshake's own records.
    client.read_until(b"hello");
    let before = client.records;
    client.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    // `read_to_end` fails without `close_notify`, which is the second record.
    assert!(client.read_to_end().expect("it is told").ends_with(b"hello"));
    assert_eq!(client.records - before, 2);
    serving.stop();
}

#[test]
fn a_body_that_is_cut_is_not_whole() {
    let serving = serve("ec", Config::default());
    for head in ["content-length: 10", "transfer-encoding: chunked"] {
        for notify in [false, true] {
            let mut client = serving.client();
            client.write(format!("POST / HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n").as_bytes());
            client.write(b"3\r\nab");
            client.close(notify);
            let Seen::Broken(body) = serving.seen() else {
                panic!("it was taken for whole");
            };
            assert!(b"3\r\nab".ends_with(&body), "{body:?}");
        }
    }
    serving.stop();
}

#[test]
fn nothing_is_read_past_a_forged_record() {
    let serving = serve("ec", Config::default());
    let mut client = serving.client();
    client.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n");
    // Now it is with the application, which reads.
    client.read_until(b"\r\n\r\n");
    client.write(b"abc");
    client.write_forged(b"def", b"ghi");
    let seen = serving.seen();
    let Seen::Broken(body) = &seen else {
        panic!("the body is broken: {seen:?}");
    };
    assert!(b"abc".starts_with(body), "{body:?}");
    let error = client.read_to_end().expect_err("there is an alert");
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    serving.stop();
}

#[test]
fn what_is_not_tls_is_turned_away() {
    let serving = serve("ec", Config::default());
    let mut client = TcpStream::connect(serving.address).expect("it listens");
    client.set_read_timeout(Some(WAIT)).expect("it is no zero");
    // More than is read at once.
    let plain = [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], &[b'x'; 100_000]].concat();
    client.write_all(&plain).expect("it is open");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("it ends");
    // An alert, and no plaintext.
    assert_eq!(answer.first(), Some(&21));
    let Seen::TurnedAway(why) = serving.seen() else {
        panic!("it is told");
    };
    assert!(why.contains("InvalidContentType"), "{why}");
    // It is still there, and reads on: closed with bytes unread, the connection would have been reset.
    for _ in 0..50 {
        assert_eq!(serving.server.statistics().connections, 1);
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(client);
    assert_eq!(serving.server.statistics().tls_failed, 1);
    // Who connects and leaves has not failed at anything.
    drop(TcpStream::connect(serving.address).expect("it listens"));
    let mut client = serving.client();
    client.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    client.read_to_end().expect("it ends as it should");
    assert_eq!(serving.server.statistics().tls_failed, 1);
    serving.stop();
}

#[test]
fn a_handshake_that_does_not_go_on_ends() {
    let config = Config {
        header_timeout: Duration::from_millis(50),
        ..Config::default()
    };
    let serving = serve("ec", config);
    let mut client = TcpStream::connect(serving.address).expect("it listens");
    client.set_read_timeout(Some(WAIT)).expect("it is no zero");
    client.write_all(&[22, 3, 1, 2, 0]).expect("it is open");
    let ended = client.read(&mut [0; 16]);
    assert!(
        matches!(&ended, Ok(0)) || matches!(&ended, Err(error) if error.kind() == ErrorKind::ConnectionReset),
        "{ended:?}"
    );
    assert!(matches!(serving.seen(), Seen::TurnedAway(_)));
    serving.stop();
}

#[test]
fn http2_is_offered_where_it_is_spoken() {
    for (http2, agreed) in [(true, "h2"), (false, "http/1.1")] {
        let serving = serve(
            "ec",
            Config {
                http2,
                ..Config::default()
            },
        );
        let mut client = Client::new(serving.address, &file("ec.pem"), &["h2", "http/1.1"]);
        client.shake_hands();
        assert_eq!(client.agreed(), Some(agreed));
        client.close(true);
        serving.stop();
    }
}

#[test]
fn sessions_are_resumed() {
    let serving = serve("ec", Config::default());
    let mut client = serving.client();
    client.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    client.read_to_end().expect("it ends as it should");
    assert!(!client.is_resumed());
    let mut client = client.again(serving.address);
    client.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(
        client
            .read_to_end()
            .expect("it ends as it should")
            .ends_with(b"hello")
    );
    assert!(client.is_resumed());
    serving.stop();
}

#[test]
fn bad_files_are_told_apart() {
    let folder = std::env::temp_dir().join(format!("roving-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("it can be written");
        path
    };
    let pem = |kind: &str, text: &str| format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n");
    let (certificate, key) = (file("ec.pem"), file("ec.key"));
    let cases = [
        (folder.join("none.pem"), key.clone(), "No such file"),
        (write("der", "0\u{1}"), key.clone(), "is not PEM"),
        (key.clone(), key.clone(), "has no certificate in it"),
        (
            write("base64", &pem("CERTIFICATE", "?")),
            key.clone(),
            "is broken PEM",
        ),
        (
            write("cert", &pem("CERTIFICATE", "AAAA")),
            key,
            "certificate that cannot be read",
        ),
        (
            certificate.clone(),
            certificate.clone(),
            "has no private key in it",
        ),
        (
            certificate.clone(),
            file("rsa.key"),
            "is not that of the certificate",
        ),
        (
            certificate.clone(),
            write("key", &pem("PRIVATE KEY", "AAAA")),
            "cannot be used",
        ),
        (
            certificate.clone(),
            write("secret", &pem("ENCRYPTED PRIVATE KEY", "AAAA")),
            "is encrypted",
        ),
        (
            certificate,
            write("old", &pem("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\nAAAA")),
            "is encrypted",
        ),
    ];
    for (certificate, key, expected) in cases {
        let files = TlsFiles {
            certificate,
            key: Some(key),
            ..TlsFiles::default()
        };
        let error = Tls::load(files, true).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    std::fs::remove_dir_all(&folder).expect("it is ours");
}
