//! How calls on TCP sockets end other than well: timeouts, cancellation, close, the end of a runtime.

mod net_support;

use net_support::{Rng, listen, on_workers, pair, spawn_polling, spawn_waiting};
use roving_runtime::is_cancelled;
use roving_runtime::net::{TcpListener, TcpStream};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

#[test]
fn timeouts_end_calls() {
    on_workers(|runtime| {
        let (listener, addr) = listen();
        let test = move || {
            let short = Some(Duration::from_millis(2));
            let (client, server) = pair();
            client.set_read_timeout(short).unwrap();
            assert_eq!(client.read_timeout(), short);
            assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(client.peek(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
            client.set_write_timeout(short).unwrap();
            let full = (&client).write_all(&vec![0; 64 << 20]).unwrap_err();
            assert_eq!(full.kind(), ErrorKind::TimedOut);
            assert_eq!(
                client.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
            // A timeout is for one call: the next may succeed.
            (&server).write_all(b"x").unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 1);
        };
        runtime.spawn(test).join().unwrap();
        std::thread::spawn(test).join().unwrap();
        listener.set_timeout(Some(Duration::from_millis(2))).unwrap();
        runtime
            .spawn(move || {
                assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::TimedOut);
                let client = TcpStream::connect(addr).unwrap();
                assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
            })
            .join()
            .unwrap();
    });
}

/// A listener whose backlog is full, and what fills it: further connections get no answer.
fn full_listener() -> (TcpListener, SocketAddr, Vec<TcpStream>) {
    let listener = TcpListener::bind_with_backlog((Ipv4Addr::LOCALHOST, 0), 0).expect("a port");
    let addr = listener.local_addr().expect("an address");
    let mut filling = Vec::new();
    loop {
        match TcpStream::connect_timeout(addr, Duration::from_millis(30)) {
            Ok(stream) => filling.push(stream),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                return (listener, addr, filling);
            }
        }
    }
}

#[test]
fn a_connection_that_gets_no_answer_times_out() {
    on_workers(|runtime| {
        let (_listener, addr, _filling) = full_listener();
        let begun = Instant::now();
        let timeout = Duration::from_millis(5);
        // One timeout for all addresses together.
        let error = runtime
            .spawn(move || TcpStream::connect_timeout([addr; 20], timeout))
            .join()
            .unwrap();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() >= timeout);
    });
}

#[test]
fn no_data_is_lost_when_timeouts_and_data_race() {
    on_workers(|runtime| {
        const MESSAGES: u64 = 300;
        let (client, server) = pair();
        let writer = runtime.spawn(move || {
            let mut rng = Rng::new(2);
            for message in 0..MESSAGES {
                roving_runtime::sleep(Duration::from_micros(rng.below(100))).expect("nobody cancels it");
                (&client).write_all(&message.to_ne_bytes()).expect("it reads");
            }
        });
        let reader = runtime.spawn(move || {
            server.set_read_timeout(Some(Duration::from_micros(50))).unwrap();
            let (mut data, mut timeouts) = (Vec::new(), 0);
            loop {
                let mut buf = [0; 8];
                match server.read(&mut buf) {
                    Ok(0) => return (data, timeouts),
                    Ok(count) => data.extend_from_slice(&buf[..count]),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::TimedOut);
                        timeouts += 1;
                    }
                }
            }
        });
        writer.join().unwrap();
        let (data, timeouts) = reader.join().unwrap();
        let expected: Vec<u8> = (0..MESSAGES).flat_map(u64::to_ne_bytes).collect();
        assert_eq!(data, expected);
        eprintln!("{timeouts} timeouts");
    });
}

#[test]
fn cancellation_ends_each_wait() {
    on_workers(|runtime| {
        let check = |what: &str, wait: Box<dyn FnOnce() -> io::Result<()> + Send>| {
            let fiber = spawn_waiting(runtime, move |waits| {
                waits.raise();
                wait()
            });
            fiber.cancel();
            let error = fiber.join().unwrap().expect_err(what);
            assert!(is_cancelled(&error), "{what}: {error}");
            assert_ne!(
                error.kind(),
                ErrorKind::Interrupted,
                "the standard library would try again"
            );
        };
        let (client, _server) = pair();
        let client = Arc::new(client);
        let stream = client.clone();
        check("read", Box::new(move || stream.read(&mut [0; 9]).map(|_| ())));
        let stream = client.clone();
        check("peek", Box::new(move || stream.peek(&mut [0; 9]).map(|_| ())));
        let stream = client.clone();
        check("read_exact", Box::new(move || (&*stream).read_exact(&mut [0; 9])));
        let stream = client.clone();
        check(
            "write",
            Box::new(move || (&*stream).write_all(&vec![0; 64 << 20])),
        );
        let (listener, _) = listen();
        check("accept", Box::new(move || listener.accept().map(|_| ())));
        let (_listener, addr, _filling) = full_listener();
        check(
            "connect",
            Box::new(move || TcpStream::connect([addr; 3]).map(|_| ())),
        );
        // The stream itself is as it was.
        assert_eq!(
            client.try_read(&mut [0; 9]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
    });
}

#[test]
fn close_ends_the_waits_of_others() {
    on_workers(|runtime| {
        let (client, server) = pair();
        let server = Arc::new(server);
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let server = server.clone();
                spawn_waiting(runtime, move |waits| {
                    waits.raise();
                    server.read(&mut [0; 9])
                })
            })
            .collect();
        let fd = server.as_raw_fd();
        server.close();
        for fiber in waiting {
            assert_eq!(
                fiber.join().unwrap().unwrap_err().raw_os_error(),
                Some(libc::EBADF)
            );
        }
        // The connection has ended, though the handle lives;
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert_eq!(server.write(b"x").unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(server.peer_addr().unwrap_err().raw_os_error(), Some(libc::EBADF));
        server.close();
        // and its number is not used again before the handle goes.
        let others: Vec<_> = (0..50)
            .map(|_| std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
            .collect();
        assert!(others.iter().all(|other| other.as_raw_fd() != fd));
    });
}

#[test]
fn close_frees_a_listeners_port() {
    on_workers(|runtime| {
        let (listener, addr) = listen();
        let listener = Arc::new(listener);
        let theirs = listener.clone();
        let accepting = spawn_waiting(runtime, move |waits| {
            waits.raise();
            theirs.accept().map(|_| ())
        });
        listener.close();
        assert_eq!(
            accepting.join().unwrap().unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
        TcpListener::bind(addr).expect("the port is free");
    });
}

#[test]
fn close_ends_the_wait_of_a_plain_thread() {
    let _watchdog = net_support::Watchdog::new();
    for _ in 0..20 {
        let (_client, server) = pair();
        let server = Arc::new(server);
        let theirs = server.clone();
        let reader = spawn_polling(move || theirs.read(&mut [0; 9]));
        server.close();
        assert_eq!(
            reader.join().unwrap().unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
    }
}

#[test]
fn a_clone_is_closed_by_itself() {
    on_workers(|runtime| {
        let (client, server) = pair();
        let clone = server.try_clone().unwrap();
        let reader = spawn_waiting(runtime, move |waits| {
            waits.raise();
            let mut buf = [0; 4];
            (&clone).read_exact(&mut buf).map(|()| buf)
        });
        server.close();
        drop(server);
        (&client).write_all(b"ping").unwrap();
        assert_eq!(&reader.join().unwrap().unwrap(), b"ping");
    });
}

#[test]
fn waits_outlive_the_runtime_that_registered_first() {
    let _watchdog = net_support::Watchdog::new();
    let (client, server) = pair();
    let server = Arc::new(server);
    let first = net_support::runtime(1);
    let second = net_support::runtime(1);
    let wait = |server: Arc<TcpStream>| {
        move |waits: &net_support::Flag| {
            waits.raise();
            server.peek(&mut [0; 1])
        }
    };
    let on_first = spawn_waiting(&first, wait(server.clone()));
    let on_second = spawn_waiting(&second, wait(server));
    // Registered with the first, whose waiter is cancelled; the other waits on.
    assert!(first.shutdown(roving_runtime::DropPolicy::Abandon(Duration::from_secs(10))));
    assert!(is_cancelled(&on_first.join().unwrap().unwrap_err()));
    (&client).write_all(b"x").unwrap();
    assert_eq!(on_second.join().unwrap().unwrap(), 1);
}

#[test]
fn a_stuck_worker_keeps_nobody_elses_data() {
    let _watchdog = net_support::Watchdog::new();
    let runtime = net_support::runtime(2);
    let worker = || std::thread::current().name().map(str::to_owned);
    let (client, server) = pair();
    let server = Arc::new(server);
    let (said, heard) = channel();
    let wait = || {
        let (server, said) = (server.clone(), said.clone());
        let fiber = runtime.fiber().spread().spawn(move || {
            said.send(worker()).expect("the test listens");
            server.peek(&mut [0])
        });
        let fiber = fiber.map_err(|error| error.kind).expect("the runtime runs");
        (fiber, heard.recv().expect("it says where it is"))
    };
    // One waiter on each worker; the connection is registered where the first one is.
    let (first, home) = wait();
    let mut others = Vec::new();
    let second = loop {
        let (fiber, at) = wait();
        if at != home {
            break fiber;
        }
        others.push(fiber);
    };
    // The first one's worker now blocks in a call that knows nothing of fibers. (Those that start elsewhere wait
    // there: placement then sends the next one here.)
    let (gate, mut key) = std::io::pipe().expect("a pipe");
    let gate = Arc::new(gate);
    loop {
        let (gate, home, said, server) = (gate.clone(), home.clone(), said.clone(), server.clone());
        let fiber = runtime.fiber().spread().spawn(move || {
            let found = worker() == home;
            said.send(home.filter(|_| found)).expect("the test listens");
            if found {
                (&*gate).read(&mut [0])
            } else {
                server.peek(&mut [0])
            }
        });
        others.push(fiber.map_err(|error| error.kind).expect("the runtime runs"));
        if heard.recv().expect("it says whether it blocks").is_some() {
            break;
        }
    }
    (&client).write_all(b"x").expect("it is open");
    assert_eq!(second.join().expect("no panic").expect("there is data"), 1);
    assert!(!first.is_done(), "its worker is blocked");
    key.write_all(b"x").expect("it is open");
    assert_eq!(first.join().expect("no panic").expect("there is data"), 1);
    for fiber in others {
        assert_eq!(fiber.join().expect("no panic").expect("there is data"), 1);
    }
}
