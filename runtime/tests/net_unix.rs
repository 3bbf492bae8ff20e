//! Unix sockets, and UDP.

mod net_support;

use net_support::{on_workers, spawn_waiting};
use roving_runtime::is_cancelled;
use roving_runtime::net::{UdpSocket, UnixDatagram, UnixListener, UnixStream};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A path for a socket file, removed when dropped.
struct SocketFile(PathBuf);

impl SocketFile {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "roving-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn unix_streams_connect_and_echo() {
    on_workers(|runtime| {
        let file = SocketFile::new();
        let listener = UnixListener::bind(&file.0).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*file.0));
        let server = runtime.spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            stream.write_all(text.to_uppercase().as_bytes())
        });
        let path = file.0.clone();
        let client = runtime.spawn(move || {
            let mut stream = UnixStream::connect(path)?;
            stream.write_all(b"hello")?;
            stream.shutdown(std::net::Shutdown::Write)?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        });
        assert_eq!(client.join().unwrap().unwrap(), "HELLO");
        server.join().unwrap().unwrap();
        assert_eq!(
            UnixStream::connect(&file.0).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        assert_eq!(
            UnixStream::connect("/nowhere/at/all").unwrap_err().kind(),
            ErrorKind::NotFound
        );
    });
}

#[test]
fn unix_addresses_may_be_abstract() {
    let _watchdog = net_support::Watchdog::new();
    let name = format!("roving-test-abstract-{}", std::process::id());
    let addr = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    let listener = UnixListener::bind_addr(&addr).unwrap();
    let mut client = UnixStream::connect_addr(&addr).unwrap();
    client.write_all(b"x").unwrap();
    let (server, _) = listener.accept().unwrap();
    assert_eq!(server.read(&mut [0; 9]).unwrap(), 1);
}

#[test]
fn a_full_backlog_is_waited_for() {
    on_workers(|runtime| {
        let file = SocketFile::new();
        let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        listener.bind(&socket2::SockAddr::unix(&file.0).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let listener = UnixListener::from_std(listener.into()).unwrap();
        let first = UnixStream::connect(&file.0).unwrap();
        // The system has no room for another: no event tells when it has.
        let error = UnixStream::connect_timeout(&file.0, Duration::from_millis(3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let path = file.0.clone();
        let waiting = spawn_waiting(runtime, move |waits| {
            waits.raise();
            UnixStream::connect(path).map(|_| ())
        });
        runtime
            .spawn(move || (listener.accept().unwrap(), listener.accept().unwrap()))
            .join()
            .unwrap();
        waiting.join().unwrap().unwrap();
        drop(first);
    });
}

#[test]
fn unix_streams_move_much_both_ways() {
    on_workers(|runtime| {
        const BYTES: usize = 1 << 20;
        let (one, other) = UnixStream::pair().unwrap();
        runtime.handle().scope(|scope| {
            for stream in [Arc::new(one), Arc::new(other)] {
                let reader = stream.clone();
                scope.spawn(move || (&*stream).write_all(&vec![7; BYTES]).expect("it reads"));
                scope.spawn(move || {
                    let mut data = vec![0; BYTES];
                    (&*reader).read_exact(&mut data).expect("it writes");
                    assert!(data.iter().all(|&byte| byte == 7));
                });
            }
        });
    });
}

#[test]
fn unix_waits_end_by_cancellation_timeout_and_close() {
    on_workers(|runtime| {
        let (one, _other) = UnixStream::pair().unwrap();
        let one = Arc::new(one);
        let wait = || {
            let one = one.clone();
            spawn_waiting(runtime, move |waits| {
                waits.raise();
                one.read(&mut [0])
            })
        };
        let cancelled = wait();
        cancelled.cancel();
        assert!(is_cancelled(&cancelled.join().unwrap().unwrap_err()));
        one.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(wait().join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        one.set_read_timeout(None).unwrap();
        let waiting = wait();
        one.close();
        assert_eq!(
            waiting.join().unwrap().unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
    });
}

#[test]
fn unix_datagrams_keep_their_bounds() {
    on_workers(|runtime| {
        let file = SocketFile::new();
        let receiver = UnixDatagram::bind(&file.0).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let path = file.0.clone();
        // More than the receiver's queue takes: the system has no event for an unconnected sender.
        let sending = runtime.spawn(move || {
            (0..50_u8).try_for_each(|nth| sender.send_to(&vec![nth; usize::from(nth)], &path).map(|_| ()))
        });
        let receiving = runtime.spawn(move || {
            for nth in 0..50_u8 {
                let mut buf = [0; 100];
                let (count, _) = receiver.recv_from(&mut buf)?;
                assert_eq!(buf[..count], vec![nth; usize::from(nth)]);
            }
            io::Result::Ok(())
        });
        sending.join().unwrap().unwrap();
        receiving.join().unwrap().unwrap();
        let (one, other) = UnixDatagram::pair().unwrap();
        let sending = runtime.spawn(move || (0..200).try_for_each(|_| one.send(b"abc").map(|_| ())));
        let receiving =
            runtime.spawn(move || (0..200).map(|_| other.recv(&mut [0; 9]).unwrap()).sum::<usize>());
        sending.join().unwrap().unwrap();
        assert_eq!(receiving.join().unwrap(), 600);
    });
}

fn udp() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

#[test]
fn udp_sends_and_receives() {
    on_workers(|runtime| {
        let (one, other) = (udp(), udp());
        let (one_addr, other_addr) = (one.local_addr().unwrap(), other.local_addr().unwrap());
        let answering = runtime.spawn(move || {
            let mut buf = [0; 100];
            let (count, from) = other.recv_from(&mut buf)?;
            assert_eq!(from, one_addr);
            buf[..count].reverse();
            other.connect(from)?;
            other.send(&buf[..count])
        });
        let asking = runtime.spawn(move || {
            one.send_to(b"abc", other_addr)?;
            let mut buf = [0; 100];
            assert_eq!(one.peek_from(&mut buf)?, (3, other_addr));
            assert_eq!(one.peek(&mut buf)?, 3);
            let count = one.recv(&mut buf)?;
            io::Result::Ok(buf[..count].to_vec())
        });
        assert_eq!(asking.join().unwrap().unwrap(), b"cba");
        answering.join().unwrap().unwrap();
    });
}

#[test]
fn an_error_wakes_the_receiver() {
    on_workers(|runtime| {
        let (one, gone) = (udp(), udp());
        one.connect(gone.local_addr().unwrap()).unwrap();
        drop(gone);
        let one = Arc::new(one);
        let receiver = one.clone();
        let receiving = spawn_waiting(runtime, move |waits| {
            waits.raise();
            receiver.recv(&mut [0; 9])
        });
        one.send(b"x").unwrap();
        assert_eq!(
            receiving.join().unwrap().unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    });
}

#[test]
fn udp_waits_end_by_cancellation_timeout_and_close() {
    on_workers(|runtime| {
        let socket = Arc::new(udp());
        let wait = || {
            let socket = socket.clone();
            spawn_waiting(runtime, move |waits| {
                waits.raise();
                socket.recv_from(&mut [0; 9]).map(|_| ())
            })
        };
        let cancelled = wait();
        cancelled.cancel();
        assert!(is_cancelled(&cancelled.join().unwrap().unwrap_err()));
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(wait().join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        socket.set_read_timeout(None).unwrap();
        let waiting = wait();
        let thread = {
            let socket = socket.clone();
            std::thread::spawn(move || socket.recv_from(&mut [0; 9]).map(|_| ()))
        };
        socket.close();
        assert_eq!(
            waiting.join().unwrap().unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
        assert_eq!(
            thread.join().unwrap().unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
    });
}
