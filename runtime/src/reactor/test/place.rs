//! Where descriptors are registered.

use super::machine::{Machine, wait_parked};
use crate::fiber::WaitReason;
use crate::reactor::{Direction, Source, Whole};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// A socket of ours, and the other end.
struct Socket {
    source: Source,
    stream: UnixStream,
}

fn pair() -> (Arc<Socket>, UnixStream) {
    let (stream, other) = UnixStream::pair().expect("two sockets");
    stream.set_nonblocking(true).expect("it is open");
    let source = Source::new(stream.as_fd(), true);
    (Arc::new(Socket { source, stream }), other)
}

impl Socket {
    fn read(&self, timeout: Option<Duration>) -> std::io::Result<u8> {
        let read = || {
            let mut byte = [0];
            (&self.stream).read_exact(&mut byte).map(|()| Whole(byte[0]))
        };
        self.source.run(Direction::Read, timeout, read).map(|byte| byte.0)
    }

    fn is_at(&self, machine: &Machine, worker: usize) -> bool {
        self.source.record().is_registered_with(machine.registrar(worker))
    }
}

#[test]
fn the_first_waiter_decides_and_the_only_one_decides_anew() {
    let machine = Machine::new(2);
    let (socket, mut other) = pair();
    let read_on = |worker| {
        let socket = socket.clone();
        let fiber = machine.spawn_on(worker, move || socket.read(None));
        wait_parked(&fiber, WaitReason::Readable);
        fiber
    };
    for (worker, byte) in [(0, 1), (1, 2), (0, 3)] {
        let fiber = read_on(worker);
        assert!(socket.is_at(&machine, worker));
        other.write_all(&[byte]).expect("it is open");
        assert_eq!(fiber.join().expect("no panic").expect("there is data"), byte);
    }
    // While another waits there it stays, and events cross.
    let first = read_on(0);
    let second = read_on(1);
    assert!(socket.is_at(&machine, 0));
    other.write_all(&[4, 5]).expect("it is open");
    let mut bytes = [first, second].map(|fiber| fiber.join().expect("no panic").expect("there is data"));
    bytes.sort_unstable();
    assert_eq!(bytes, [4, 5]);
}

#[test]
fn a_driver_nobody_waits_at_is_not_looked_at() {
    let machine = Machine::new(1);
    let (socket, mut other) = pair();
    let registrar = machine.registrar(0);
    assert!(!registrar.is_waited_for());
    let wait = |timeout| {
        let socket = socket.clone();
        let fiber = machine.spawn_on(0, move || socket.read(timeout).map_err(|error| error.kind()));
        if timeout.is_none() {
            wait_parked(&fiber, WaitReason::Readable);
            assert!(registrar.is_waited_for());
        }
        fiber
    };
    let fiber = wait(None);
    other.write_all(&[1]).expect("it is open");
    assert_eq!(fiber.join().expect("no panic"), Ok(1));
    assert!(!registrar.is_waited_for(), "after an event");
    let fiber = wait(Some(Duration::from_millis(1)));
    assert_eq!(fiber.join().expect("no panic"), Err(std::io::ErrorKind::TimedOut));
    assert!(!registrar.is_waited_for(), "after a timeout");
    let fiber = wait(None);
    fiber.cancel();
    fiber.join().expect("no panic").expect_err("it was cancelled");
    assert!(!registrar.is_waited_for(), "after a cancellation");
    let fiber = wait(None);
    socket.source.close();
    fiber.join().expect("no panic").expect_err("it was closed");
    assert!(!registrar.is_waited_for(), "after a close");
}

#[test]
fn a_stuck_workers_poll_is_anybodys() {
    let machine = Machine::new(2);
    let (socket, mut other) = pair();
    let (gate, mut key) = std::io::pipe().expect("a pipe");
    let read_on = |worker| {
        let socket = socket.clone();
        let fiber = machine.spawn_on(worker, move || socket.read(None));
        wait_parked(&fiber, WaitReason::Readable);
        fiber
    };
    // Registered with the first worker, which then blocks in the system, as in a call of C.
    let pinned = read_on(0);
    let crossing = read_on(1);
    assert!(socket.is_at(&machine, 0));
    let (said, heard) = std::sync::mpsc::channel();
    let blocking = machine.spawn_on(0, move || {
        said.send(()).expect("the test listens");
        (&gate).read_exact(&mut [0]).expect("the test writes");
    });
    heard.recv().expect("it blocks now");
    other.write_all(&[7, 8]).expect("it is open");
    assert!(!crossing.is_done());
    machine.poll(0);
    crossing.join().expect("no panic").expect("there is data");
    assert!(
        !pinned.is_done() && !blocking.is_done(),
        "its worker is still blocked"
    );
    key.write_all(&[1]).expect("it is open");
    blocking.join().expect("no panic");
    pinned.join().expect("no panic").expect("there is data");
}

#[test]
fn waits_move_on_when_a_worker_leaves() {
    let second = Machine::new(1);
    let (socket, mut other) = pair();
    let read_on = |machine: &Machine| {
        let socket = socket.clone();
        let fiber = machine.spawn_on(0, move || socket.read(None));
        wait_parked(&fiber, WaitReason::Readable);
        fiber
    };
    let first = Machine::new(1);
    let cancelled = read_on(&first);
    let waiting = read_on(&second);
    assert!(socket.is_at(&first, 0));
    cancelled.cancel();
    cancelled.join().expect("no panic").expect_err("it was cancelled");
    drop(first);
    // It woke, and registered where it lives.
    while !socket.is_at(&second, 0) {
        std::thread::yield_now();
    }
    other.write_all(&[9]).expect("it is open");
    assert_eq!(waiting.join().expect("no panic").expect("there is data"), 9);
}
