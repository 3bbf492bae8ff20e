//! `wait_refused`: waits after a call that would have blocked.

mod net_support;

use net_support::{Flag, on_workers, spawn_waiting};
use roving_runtime::{closing, closing_range, wait_readable, wait_refused};
use std::io::{ErrorKind, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

fn refused(fd: RawFd) -> impl FnOnce(&Flag) -> std::io::Result<()> + Send {
    move |waits| {
        waits.raise();
        wait_refused(fd, false, None, || true)
    }
}

/// A pipe whose reading end has a number that nobody else is given.
fn pipe_with_number(least: RawFd) -> (std::fs::File, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    assert!(fd >= least);
    // SAFETY: just made.
    (unsafe { OwnedFd::from_raw_fd(fd) }.into(), writer)
}

#[test]
fn it_waits_again_and_again_beside_others() {
    on_workers(|runtime| {
        let (mut reader, mut writer) = pipe().unwrap();
        let fd = reader.as_raw_fd();
        for round in 0..3 {
            let waits = spawn_waiting(runtime, refused(fd));
            let also = spawn_waiting(runtime, refused(fd));
            let other = spawn_waiting(runtime, move |waits| {
                waits.raise();
                wait_readable(fd, None)
            });
            writer.write_all(&[round]).unwrap();
            for fiber in [waits, also, other] {
                fiber.join().unwrap().unwrap();
            }
            reader.read_exact(&mut [0]).unwrap();
        }
    });
}

#[test]
fn what_came_since_the_call_is_found() {
    on_workers(|runtime| {
        let (mut reader, mut writer) = pipe().unwrap();
        let fd = reader.as_raw_fd();
        for _ in 0..3 {
            // Also what a registration of an earlier wait has reported already, to nobody.
            writer.write_all(b"x").unwrap();
            for _ in 0..3 {
                let late = runtime.spawn(move || wait_refused(fd, false, None, || true));
                late.join().unwrap().unwrap();
            }
            reader.read_exact(&mut [0]).unwrap();
        }
        let soon = Some(Instant::now() + Duration::from_millis(20));
        let never = runtime.spawn(move || wait_refused(fd, false, soon, || true));
        assert_eq!(never.join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_number_may_stand_for_another_file_without_a_word() {
    on_workers(|runtime| {
        let (mut reader, mut writer) = pipe_with_number(3_000);
        let fd = reader.as_raw_fd();
        let waits = spawn_waiting(runtime, refused(fd));
        writer.write_all(b"x").unwrap();
        waits.join().unwrap().unwrap();
        // Forgotten by the kernel with its file, or kept there by a copy.
        for keep in [false, true] {
            let copy = keep.then(|| reader.try_clone().unwrap());
            let (other, mut other_writer) = pipe().unwrap();
            // SAFETY: puts a new file in the place of the old one, which `reader` then owns.
            assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), fd) }, fd);
            drop(other);
            let waits = spawn_waiting(runtime, refused(fd));
            other_writer.write_all(b"y").unwrap();
            waits.join().unwrap().unwrap();
            reader.read_exact(&mut [0]).unwrap();
            drop(copy);
        }
    });
}

#[test]
fn it_learns_of_a_close() {
    on_workers(|runtime| {
        let (reader, _writer) = pipe_with_number(3_100);
        let fd = reader.as_raw_fd();
        let bad = Some(libc::EBADF);
        let waits = spawn_waiting(runtime, refused(fd));
        let announced = closing(fd);
        drop(reader);
        drop(announced);
        assert_eq!(waits.join().unwrap().unwrap_err().raw_os_error(), bad);
        let (reader, _writer) = pipe_with_number(fd);
        let waits = spawn_waiting(runtime, refused(fd));
        let announced = closing_range(fd - 5..fd + 5);
        assert_eq!(announced.len(), 1);
        drop(reader);
        drop(announced);
        assert_eq!(waits.join().unwrap().unwrap_err().raw_os_error(), bad);
    });
}

#[test]
fn a_close_between_call_and_wait_is_seen_by_the_caller() {
    on_workers(|runtime| {
        // The number has been used again since.
        let (reader, _writer) = pipe_with_number(3_200);
        let fd = reader.as_raw_fd();
        let late = runtime.spawn(move || wait_refused(fd, false, None, || false));
        assert_eq!(
            late.join().unwrap().unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
    });
}
