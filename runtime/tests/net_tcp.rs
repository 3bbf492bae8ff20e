//! TCP, over the loopback interface.

mod net_support;

use net_support::{Rng, listen, on_workers, pair, spawn_waiting};
use roving_runtime::net::{TcpListener, TcpStream};
use roving_runtime::sync::Barrier;
use roving_runtime::{Runtime, spawn};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Sends everything back until the end.
fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut buf = [0; 1000];
    loop {
        match stream.read(&mut buf)? {
            0 => return Ok(()),
            count => stream.write_all(&buf[..count])?,
        }
    }
}

/// Accepts `count` connections and echoes on each in a fiber of its own.
fn serve(runtime: &Runtime, listener: TcpListener, count: usize) -> roving_runtime::JoinHandle<()> {
    runtime.spawn(move || {
        let fibers: Vec<_> = (0..count)
            .map(|_| listener.accept().expect("a connection").0)
            .map(|stream| spawn(move || echo(&stream).expect("the other side is polite")))
            .collect();
        fibers
            .into_iter()
            .for_each(|fiber| fiber.join().expect("it does not panic"));
    })
}

#[test]
fn echoes_messages_of_all_sizes() {
    let mut seeds = Rng::new(1);
    let seed = seeds.below(u64::MAX);
    on_workers(|runtime| {
        let (listener, addr) = listen();
        let server = serve(runtime, listener, 20);
        runtime.handle().scope(|scope| {
            for client in 0..20 {
                scope.spawn(move || {
                    let mut rng = Rng::new(seed ^ client);
                    let mut stream = TcpStream::connect(addr).expect("it listens");
                    for _ in 0..20 {
                        let message: Vec<u8> = (0..rng.below(5000)).map(|_| rng.below(256) as u8).collect();
                        stream.write_all(&message).expect("it reads");
                        let mut back = vec![0; message.len()];
                        stream.read_exact(&mut back).expect("it writes");
                        assert_eq!(message, back);
                    }
                });
            }
        });
        server.join().expect("it ends when the clients have");
    });
}

#[test]
fn plain_threads_use_the_same_sockets() {
    let _watchdog = net_support::Watchdog::new();
    let (listener, addr) = listen();
    let server = std::thread::spawn(move || {
        let (stream, peer) = listener.accept().expect("a connection");
        assert!(peer.ip().is_loopback());
        echo(&stream)
    });
    let mut stream = TcpStream::connect(addr).expect("it listens");
    for message in [&b"one"[..], b"another", b"a third"] {
        stream.write_all(message).expect("it reads");
        let mut back = vec![0; message.len()];
        stream.read_exact(&mut back).expect("it writes");
        assert_eq!(message, back);
    }
    drop(stream);
    server
        .join()
        .expect("it does not panic")
        .expect("the client is polite");
}

#[test]
fn a_thousand_connections_at_once() {
    on_workers(|runtime| {
        const CLIENTS: usize = 1000;
        let (listener, addr) = listen();
        let server = serve(runtime, listener, CLIENTS);
        let connected = Barrier::new(CLIENTS);
        runtime.handle().scope(|scope| {
            for client in 0..CLIENTS {
                let connected = &connected;
                scope.spawn(move || {
                    let mut stream = TcpStream::connect(addr).expect("it listens");
                    // All at once.
                    let _ = connected.wait().expect("nobody cancels it");
                    let message = client.to_ne_bytes();
                    let mut back = message;
                    for _ in 0..3 {
                        stream.write_all(&message).expect("it reads");
                        stream.read_exact(&mut back).expect("it writes");
                        assert_eq!(message, back);
                    }
                });
            }
        });
        server.join().expect("it ends when the clients have");
    });
}

#[test]
fn one_half_may_close_before_the_other() {
    on_workers(|runtime| {
        let (client, server) = pair();
        let server = runtime.spawn(move || {
            let mut request = Vec::new();
            (&server).read_to_end(&mut request)?;
            request.reverse();
            (&server).write_all(&request)
        });
        let reply = runtime.spawn(move || {
            (&client).write_all(b"abc")?;
            client.shutdown(Shutdown::Write)?;
            assert_eq!(client.write(b"d").unwrap_err().kind(), ErrorKind::BrokenPipe);
            let mut reply = String::new();
            (&client).read_to_string(&mut reply).map(|_| reply)
        });
        assert_eq!(reply.join().unwrap().unwrap(), "cba");
        server.join().unwrap().unwrap();
    });
}

#[test]
fn a_reset_is_an_error() {
    on_workers(|runtime| {
        let (client, server) = pair();
        let reader = spawn_waiting(runtime, move |waits| {
            waits.raise();
            server.read(&mut [0; 10])
        });
        client.set_linger(Some(Duration::ZERO)).expect("it is open");
        drop(client);
        assert_eq!(
            reader.join().unwrap().unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn a_stream_has_a_reader_and_a_writer_at_once() {
    on_workers(|runtime| {
        const BYTES: usize = 1 << 20;
        let (one, other) = pair();
        runtime.handle().scope(|scope| {
            for stream in [Arc::new(one), Arc::new(other)] {
                let reader = stream.clone();
                scope.spawn(move || {
                    let data: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
                    (&*stream).write_all(&data).expect("it reads");
                });
                scope.spawn(move || {
                    let mut data = vec![0; BYTES];
                    (&*reader).read_exact(&mut data).expect("it writes");
                    assert!(
                        data.iter()
                            .enumerate()
                            .all(|(at, &byte)| byte == (at % 251) as u8)
                    );
                });
            }
        });
    });
}

#[test]
fn many_may_accept_on_one_listener() {
    on_workers(|runtime| {
        let (listener, addr) = listen();
        let listener = Arc::new(listener);
        let accepting: Vec<_> = (0..4)
            .map(|_| {
                let listener = listener.clone();
                spawn_waiting(runtime, move |waits| {
                    waits.raise();
                    listener.accept().map(|_| ())
                })
            })
            .collect();
        let clients: Vec<_> = (0..4)
            .map(|_| TcpStream::connect(addr).expect("it listens"))
            .collect();
        accepting
            .into_iter()
            .for_each(|fiber| fiber.join().unwrap().unwrap());
        drop(clients);
    });
}

#[test]
fn vectored_calls_use_every_buffer() {
    on_workers(|runtime| {
        let (client, server) = pair();
        let writer =
            runtime.spawn(move || client.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"cde")]));
        let read = runtime.spawn(move || {
            let (mut first, mut second) = ([0; 3], [0; 3]);
            server.peek(&mut [0; 1]).expect("it writes");
            let count =
                server.read_vectored(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)]);
            (count.expect("it writes"), first, second)
        });
        assert_eq!(writer.join().unwrap().unwrap(), 5);
        assert_eq!(read.join().unwrap(), (5, *b"abc", *b"de\0"));
    });
}

#[test]
fn urgent_data_does_not_hide_what_follows() {
    let _watchdog = net_support::Watchdog::new();
    let runtime = net_support::runtime(1);
    let (client, server) = pair();
    let reader = spawn_waiting(&runtime, move |waits| {
        waits.raise();
        let mut data = Vec::new();
        while data.len() < 6 {
            let mut buf = [0; 100];
            let count = server.read(&mut buf).expect("it writes");
            data.extend_from_slice(&buf[..count]);
        }
        data
    });
    // The worker is busy while all of it arrives: one event tells of it. Then a read stops at the mark of the urgent
    // data, short, with more behind it.
    let (busy, heard) = channel();
    let (release, released) = channel();
    let blocker = runtime.spawn(move || {
        busy.send(()).expect("the test listens");
        released.recv().expect("the test speaks");
    });
    heard.recv().expect("it says that it is busy");
    for (data, flags) in [(&b"abc"[..], 0), (b"!", libc::MSG_OOB), (b"def", 0)] {
        let client = socket2::SockRef::from(&client);
        client.send_with_flags(data, flags).expect("it is open");
    }
    release.send(()).expect("it listens");
    blocker.join().expect("no panic");
    assert_eq!(reader.join().expect("no panic"), b"abcdef");
}

#[test]
fn connects_to_the_first_address_that_answers() {
    on_workers(|runtime| {
        let (listener, addr) = listen();
        let (gone, closed) = listen();
        drop(gone);
        let connect = move || {
            let refused = TcpStream::connect(closed).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let stream = TcpStream::connect([closed, addr]).expect("the second answers");
            assert_eq!(stream.peer_addr().unwrap(), addr);
            let none: [SocketAddr; 0] = [];
            assert_eq!(
                TcpStream::connect(none).unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
            assert_eq!(
                TcpStream::connect("no port").unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
        };
        runtime.spawn(connect).join().unwrap();
        std::thread::spawn(connect).join().unwrap();
        drop(listener);
    });
}

#[test]
fn names_are_looked_up_while_the_fiber_is_parked() {
    on_workers(|runtime| {
        let (_listener, addr) = listen();
        let stream = runtime
            .spawn(move || TcpStream::connect(("localhost", addr.port())))
            .join()
            .unwrap();
        // Some machines have localhost as ::1 first: then the second address is taken.
        assert_eq!(
            stream.expect("localhost is known").peer_addr().unwrap().port(),
            addr.port()
        );
    });
}

#[test]
fn sockets_come_from_elsewhere_and_go_there() {
    on_workers(|runtime| {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(addr).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let fd: OwnedFd = TcpStream::from_std(client).unwrap().into();
        let client = TcpStream::from(fd);
        let (server, _) = runtime.spawn(move || listener.accept()).join().unwrap().unwrap();
        assert!(server.as_fd().try_clone_to_owned().is_ok());
        let fd = server.into_raw_fd();
        // SAFETY: the descriptor was given up the line above.
        let server = unsafe { TcpStream::from_raw_fd(fd) };
        let reader = runtime.spawn(move || {
            let mut buf = [0; 4];
            (&server).read_exact(&mut buf).map(|()| buf)
        });
        let mut client = client.into_std().unwrap();
        client.write_all(b"ping").unwrap();
        assert_eq!(&reader.join().unwrap().unwrap(), b"ping");
        // Back in blocking mode: a read waits for the end.
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn options_reach_the_socket() {
    let (client, _server) = pair();
    client.set_nodelay(true).unwrap();
    assert!(client.nodelay().unwrap());
    client.set_ttl(7).unwrap();
    assert_eq!(client.ttl().unwrap(), 7);
    assert!(client.take_error().unwrap().is_none());
    assert_eq!(
        client.try_read(&mut [0]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(client.try_write(b"x").unwrap(), 1);
    let (listener, _) = listen();
    listener.set_ttl(9).unwrap();
    assert_eq!(listener.ttl().unwrap(), 9);
    assert_eq!(listener.try_accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(
        listener.try_clone().unwrap().local_addr().unwrap(),
        listener.local_addr().unwrap()
    );
}
