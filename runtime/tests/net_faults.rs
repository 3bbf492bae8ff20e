//! What concerns whole processes: descriptors that run out, and many connections between two processes.

mod net_support;

use net_support::{Watchdog, child, is_child, listen, pair, run_in_child, runtime, spawn_waiting};
use roving_runtime::net::{AcceptBackoff, TcpListener, TcpStream};
use roving_runtime::sync::Barrier;
use roving_runtime::{Runtime, spawn};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Opens files until no descriptor is free.
fn use_up_descriptors() -> Vec<std::fs::File> {
    let limit = libc::rlimit {
        rlim_cur: 200,
        rlim_max: 200,
    };
    // SAFETY: a valid limit.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(set, 0);
    let files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(!files.is_empty());
    files
}

#[test]
fn accept_backs_off_while_descriptors_are_short() {
    run_in_child("child_runs_out_of_descriptors");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn child_runs_out_of_descriptors() {
    if !is_child() {
        return;
    }
    const CLIENTS: usize = 20;
    let _watchdog = Watchdog::new();
    let runtime = runtime(2);
    let (listener, addr) = listen();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap())
        .collect();
    let files = Arc::new(Mutex::new(use_up_descriptors()));
    // The system completes connections before they are accepted.
    clients
        .iter()
        .for_each(|client| client.connect(&addr.into()).unwrap());
    assert_eq!(
        TcpStream::connect(addr).unwrap_err().raw_os_error(),
        Some(libc::EMFILE)
    );
    assert_eq!(
        TcpListener::bind(addr).unwrap_err().raw_os_error(),
        Some(libc::EMFILE)
    );
    assert!(Runtime::builder().workers(1).build().is_err());
    let begun = Instant::now();
    let server = runtime.spawn(move || {
        let (mut backoff, mut accepted, mut failures) = (AcceptBackoff::new(), Vec::new(), 0);
        while accepted.len() < CLIENTS {
            match listener.accept() {
                Ok((stream, _)) => {
                    backoff.accepted();
                    accepted.push(stream);
                }
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                    failures += 1;
                    if failures == 3 {
                        files.lock().unwrap().clear();
                    }
                    backoff.failed(error).expect("it passes");
                }
            }
        }
        failures
    });
    assert_eq!(server.join().unwrap(), 3);
    // 5 + 10 + 20 ms.
    assert!(begun.elapsed() >= Duration::from_millis(35));
}

#[test]
fn backing_off_gives_other_errors_back() {
    let mut backoff = AcceptBackoff::new();
    backoff
        .failed(io::Error::from_raw_os_error(libc::ECONNABORTED))
        .expect("it concerns one connection");
    let error = backoff
        .failed(io::Error::from_raw_os_error(libc::EBADF))
        .unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

#[test]
#[ignore = "run by other tests, in a process of its own"]
fn child_serves() {
    if !is_child() {
        return;
    }
    let (listener, addr) = listen();
    println!("\nserving {addr}");
    let runtime = runtime(2);
    let _server = runtime.spawn(move || {
        let mut backoff = AcceptBackoff::new();
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    backoff.accepted();
                    spawn(move || echo(&stream));
                }
                Err(error) => backoff.failed(error).expect("it passes"),
            }
        }
    });
    // Until the parent goes.
    let _ = io::stdin().read(&mut [0]);
    std::process::exit(0);
}

fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut buf = [0; 100];
    loop {
        match stream.read(&mut buf)? {
            0 => return Ok(()),
            count => stream.write_all(&buf[..count])?,
        }
    }
}

/// Ten thousand are the subject of `ten_thousand.rs`.
#[test]
fn a_thousand_connections_between_two_processes() {
    let count = 1_000;
    let _watchdog = Watchdog::new();
    let mut server = child("child_serves")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child process");
    let output = BufReader::new(server.stdout.take().expect("a pipe"));
    let addr: SocketAddr = output
        .lines()
        .find_map(|line| line.ok()?.strip_prefix("serving ").map(str::to_owned))
        .and_then(|addr| addr.parse().ok())
        .expect("the child says where it listens");
    let runtime = runtime(2);
    let connected = Barrier::new(count);
    runtime.handle().scope(|scope| {
        for client in 0..count {
            let connected = &connected;
            scope.spawn(move || {
                let mut stream = TcpStream::connect(addr).expect("it listens");
                // All at once.
                let _ = connected.wait().expect("nobody cancels it");
                let message = client.to_ne_bytes();
                for _ in 0..3 {
                    let mut back = [0; 8];
                    stream.write_all(&message).expect("it reads");
                    stream.read_exact(&mut back).expect("it writes");
                    assert_eq!(message, back);
                }
            });
        }
    });
    drop(server.stdin.take());
    assert!(server.wait().expect("it ends").success());
}

#[test]
fn a_fork_leaves_the_parents_waits_alone() {
    run_in_child("child_forks");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn child_forks() {
    if !is_child() {
        return;
    }
    let _watchdog = Watchdog::new();
    let runtime = runtime(1);
    let (client, server) = pair();
    let server = Arc::new(server);
    let reader = {
        let server = server.clone();
        spawn_waiting(&runtime, move |waits| {
            waits.raise();
            server.read(&mut [0; 9])
        })
    };
    // SAFETY: the child makes few calls, and no other thread holds a lock they need: the worker sleeps.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        // The child shares the parent's polls: it must not take the registration away there.
        server.close();
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: a valid place for the status.
    assert_eq!(unsafe { libc::waitpid(forked, &raw mut status, 0) }, forked);
    assert_eq!(status, 0);
    assert_eq!(client.write(b"x").expect("it is open"), 1);
    assert_eq!(reader.join().expect("no panic").expect("there is data"), 1);
}
