//! An echo server with 10,000 connections, all alive at once, and its client in a process of its own (descriptors are
//! limited by process). Every connection exchanges messages, every answer is checked, and no worker of the server
//! owns more than its share. Run with `make stress`; it prints what it took.

mod common;

use common::cpu_time;
use roving_runtime::net::{AcceptBackoff, TcpListener, TcpStream};
use roving_runtime::sync::Barrier;
use roving_runtime::{JoinHandle, Runtime, spawn};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 10_000;
/// Messages on each, with all connections alive.
const ROUNDS: u64 = 5;
const SERVER: &str = "ROVING_TEST_SERVER";

/// What the server's handlers note down.
#[derive(Default)]
struct Guests {
    alive: AtomicUsize,
    most: AtomicUsize,
    bytes: AtomicUsize,
    owned: Mutex<HashMap<ThreadId, usize>>,
}

impl Guests {
    fn serve(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        *self
            .owned
            .lock()
            .unwrap()
            .entry(std::thread::current().id())
            .or_default() += 1;
        let alive = self.alive.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(alive, Ordering::Relaxed);
        let mut buf = [0; 1024];
        let outcome = loop {
            match stream.read(&mut buf) {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    self.bytes.fetch_add(count, Ordering::Relaxed);
                    if let Err(error) = stream.write_all(&buf[..count]) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        self.alive.fetch_sub(1, Ordering::Relaxed);
        outcome
    }
}

/// Accepts so many, and waits for the ends of all.
fn accept_all(listener: &TcpListener, guests: &Arc<Guests>) {
    let mut backoff = AcceptBackoff::new();
    let mut handlers: Vec<JoinHandle<std::io::Result<()>>> = Vec::new();
    while handlers.len() < CONNECTIONS {
        match listener.accept() {
            Ok((stream, _)) => {
                backoff.accepted();
                stream.set_nodelay(true).expect("it is open");
                let guests = guests.clone();
                handlers.push(spawn(move || guests.serve(&stream)));
            }
            Err(error) => backoff.failed(error).expect("it passes"),
        }
    }
    for handler in handlers {
        handler
            .join()
            .expect("no handler panics")
            .expect("no connection breaks");
    }
}

#[test]
#[ignore = "takes seconds and 10,000 descriptors in each of two processes: make stress"]
fn ten_thousand_connections_alive_at_once() {
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    if let Ok(server) = std::env::var(SERVER) {
        return talk(&runtime, server.parse().expect("an address"));
    }
    allow_descriptors();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let addr = listener.local_addr().expect("an address");
    let (begun, cpu) = (Instant::now(), cpu_time());
    let mut client = Command::new(std::env::current_exe().expect("a path"))
        .args([
            "ten_thousand_connections_alive_at_once",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(SERVER, addr.to_string())
        .spawn()
        .expect("a client");
    let guests = Arc::new(Guests::default());
    let acceptor = runtime.spawn({
        let guests = guests.clone();
        move || accept_all(&listener, &guests)
    });
    // A client that fails never makes all its connections: then the acceptor would wait for ever.
    let end = begun + Duration::from_secs(120);
    let status = loop {
        if let Some(status) = client.try_wait().expect("it is ours") {
            break status;
        }
        if Instant::now() > end {
            let _ = client.kill();
            panic!(
                "the client hangs, {} are alive",
                guests.most.load(Ordering::Relaxed)
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "the client: {status}");
    acceptor.join().expect("the acceptor does not panic");
    report("server", begun, cpu);

    assert_eq!(
        guests.most.load(Ordering::Relaxed),
        CONNECTIONS,
        "all were alive at once"
    );
    let expected: u64 = (0..CONNECTIONS as u64)
        .flat_map(|key| (0..=ROUNDS).map(move |round| size(key, round)))
        .sum();
    assert_eq!(guests.bytes.load(Ordering::Relaxed) as u64, expected);
    let mut shares: Vec<_> = guests.owned.lock().unwrap().values().copied().collect();
    shares.sort_unstable();
    eprintln!("10,000 connections: owned by the server's workers: {shares:?}");
    assert!(
        shares.iter().all(|&share| 10 * share <= 6 * CONNECTIONS),
        "{shares:?}"
    );
}

/// How many bytes a message has.
fn size(key: u64, round: u64) -> u64 {
    1 + (key * 31 + round * 97) % 900
}

/// The client: as many fibers as connections.
fn talk(runtime: &Runtime, server: SocketAddr) {
    allow_descriptors();
    let (begun, cpu) = (Instant::now(), cpu_time());
    let all = Barrier::new(CONNECTIONS);
    runtime.handle().scope(|scope| {
        for key in 0..CONNECTIONS as u64 {
            let all = &all;
            scope.spawn(move || {
                let mut stream = TcpStream::connect(server).expect("the server listens");
                stream.set_nodelay(true).expect("it is open");
                exchange(&mut stream, key, 0);
                if all.wait().expect("nobody gives up").is_leader() {
                    eprintln!("10,000 connections: all there after {:.2?}", begun.elapsed());
                }
                (1..=ROUNDS).for_each(|round| exchange(&mut stream, key, round));
                // Nobody leaves before everybody has had the answers.
                all.wait().expect("nobody gives up");
                stream.shutdown(std::net::Shutdown::Write).expect("it is open");
                assert_eq!(stream.read(&mut [0; 1]).expect("it ends in order"), 0);
            });
        }
    });
    report("client", begun, cpu);
}

fn exchange(stream: &mut TcpStream, key: u64, round: u64) {
    let message: Vec<u8> = (0..size(key, round))
        .map(|at| (key * 7 + round * 13 + at) as u8)
        .collect();
    stream.write_all(&message).expect("the server is there");
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).expect("the server answers");
    assert!(message == answer, "connection {key}, message {round}");
}

/// Raises the limit, where it may be raised.
fn allow_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a place to write to.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    let needed = CONNECTIONS as libc::rlim_t + 100;
    if limit.rlim_cur < needed {
        assert!(limit.rlim_max >= needed, "needs {needed} descriptors: ulimit -Hn");
        limit.rlim_cur = needed;
        // SAFETY: a place to read from.
        let failed = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        assert_eq!(failed, 0);
    }
}

fn report(who: &str, begun: Instant, cpu: Duration) {
    let status = std::fs::read_to_string("/proc/self/status").expect("there is /proc");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("Linux says it");
    eprintln!(
        "10,000 connections: {who} took {:.2?}, {:.2?} of processor time, at most {} of memory",
        begun.elapsed(),
        cpu_time() - cpu,
        peak.trim()
    );
}
