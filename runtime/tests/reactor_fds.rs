//! Descriptors of anybody's: `wait_readable` and its kin.

mod net_support;

use net_support::{
    Flag, Rng, is_child, on_workers, run_in_child, spawn_polling, spawn_waiting, spawn_waiting_here,
};
use roving_runtime::{PollFd, closing, is_cancelled, wait_fd, wait_fds, wait_readable, wait_writable};
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

fn readable(fd: RawFd) -> impl FnOnce(&Flag) -> std::io::Result<()> + Send {
    move |waits| {
        waits.raise();
        wait_readable(fd, None)
    }
}

fn eventfd() -> OwnedFd {
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: just made.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A pipe whose reading end has a number that nobody else is given: the runtime, too, opens descriptors when it
/// likes.
fn pipe_with_number(least: RawFd) -> (OwnedFd, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    assert!(fd >= least);
    // SAFETY: just made.
    (unsafe { OwnedFd::from_raw_fd(fd) }, writer)
}

/// What closes a descriptor while others may wait for it.
fn close(fd: impl AsRawFd) {
    let closing = closing(fd.as_raw_fd());
    drop(fd);
    drop(closing);
}

#[test]
fn waits_for_a_pipe() {
    on_workers(|runtime| {
        let (reader, mut writer) = pipe().unwrap();
        let waiting = spawn_waiting(runtime, readable(reader.as_raw_fd()));
        writer.write_all(b"x").unwrap();
        waiting.join().unwrap().unwrap();
        // It is level-triggered: what has been reported is reported again, as long as it is there.
        let fd = reader.as_raw_fd();
        for _ in 0..3 {
            runtime
                .spawn(move || wait_readable(fd, Some(Duration::ZERO)))
                .join()
                .unwrap()
                .unwrap();
        }
        let _ = (&reader).read(&mut [0]).unwrap();
        let empty = runtime
            .spawn(move || wait_readable(fd, Some(Duration::ZERO)))
            .join()
            .unwrap();
        assert_eq!(empty.unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn the_end_wakes_both_directions() {
    on_workers(|runtime| {
        let (reader, writer) = pipe().unwrap();
        let waiting = spawn_waiting(runtime, readable(reader.as_raw_fd()));
        drop(writer);
        waiting.join().unwrap().unwrap();

        let (reader, writer) = full_pipe();
        let fd = writer.as_raw_fd();
        let waiting = spawn_waiting(runtime, move |waits| {
            waits.raise();
            wait_writable(fd, None)
        });
        drop(reader);
        waiting.join().unwrap().unwrap();
    });
}

fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    // SAFETY: takes no pointers.
    let set = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    assert_eq!(set, 0);
    while writer.write(&[0; 4096]).is_ok() {}
    (reader, writer)
}

#[test]
fn waits_until_a_pipe_takes_more() {
    on_workers(|runtime| {
        let (mut reader, writer) = full_pipe();
        let fd = writer.as_raw_fd();
        let waiting = spawn_waiting(runtime, move |waits| {
            waits.raise();
            wait_writable(fd, None)
        });
        let mut buf = vec![0; 1 << 20];
        let _ = reader.read(&mut buf).unwrap();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn files_are_always_ready() {
    on_workers(|runtime| {
        runtime
            .spawn(|| {
                let file = std::fs::File::open("/proc/self/exe").unwrap();
                wait_readable(file.as_raw_fd(), None).unwrap();
                wait_writable(file.as_raw_fd(), None).unwrap();
                let folder = std::fs::File::open("/").unwrap();
                wait_readable(folder.as_raw_fd(), None).unwrap();
                let null = std::fs::File::open("/dev/null").unwrap();
                wait_readable(null.as_raw_fd(), None).unwrap();
                // Asked about errors alone, of which it never has any.
                let nothing = wait_fd(
                    PollFd::new(file.as_raw_fd(), false, false),
                    Some(Duration::from_millis(1)),
                );
                assert_eq!(nothing.unwrap_err().kind(), ErrorKind::TimedOut);
            })
            .join()
            .unwrap();
    });
}

#[test]
fn what_is_not_open_is_an_error() {
    on_workers(|runtime| {
        runtime
            .spawn(|| {
                // Nothing else opens descriptors below these.
                for fd in [-1, -7, RawFd::MIN, RawFd::MAX, 1_000_000_000] {
                    assert_eq!(
                        wait_readable(fd, None).unwrap_err().raw_os_error(),
                        Some(libc::EBADF),
                        "{fd}"
                    );
                    assert_eq!(
                        wait_writable(fd, None).unwrap_err().raw_os_error(),
                        Some(libc::EBADF),
                        "{fd}"
                    );
                    drop(closing(fd));
                }
            })
            .join()
            .unwrap();
    });
}

#[test]
fn all_waiters_wake() {
    on_workers(|runtime| {
        let event = eventfd();
        let fd = event.as_raw_fd();
        let waiting: Vec<_> = (0..5).map(|_| spawn_waiting(runtime, readable(fd))).collect();
        let thread = std::thread::spawn(move || wait_readable(fd, None));
        let mut file = std::fs::File::from(event);
        file.write_all(&1_u64.to_ne_bytes()).unwrap();
        waiting
            .into_iter()
            .for_each(|fiber| fiber.join().unwrap().unwrap());
        thread.join().unwrap().unwrap();
    });
}

#[test]
fn both_directions_wait_at_once() {
    on_workers(|runtime| {
        let (one, mut other) = std::os::unix::net::UnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        while (&one).write(&[0; 4096]).is_ok() {}
        let fd = one.as_raw_fd();
        let reading = spawn_waiting(runtime, readable(fd));
        let writing = spawn_waiting(runtime, move |waits| {
            waits.raise();
            wait_writable(fd, None)
        });
        let either = spawn_waiting(runtime, move |waits| {
            waits.raise();
            wait_fd(PollFd::new(fd, true, true), None)
        });
        other.write_all(b"x").unwrap();
        reading.join().unwrap().unwrap();
        let ready = either.join().unwrap().unwrap();
        assert!(ready.readable && !ready.writable && !ready.hangup);
        let _ = other.read(&mut vec![0; 1 << 20]).unwrap();
        writing.join().unwrap().unwrap();
    });
}

#[test]
fn closing_wakes_the_waiters() {
    on_workers(|runtime| {
        let (reader, _writer) = pipe().unwrap();
        let fd = reader.as_raw_fd();
        let waiting: Vec<_> = (0..3).map(|_| spawn_waiting(runtime, readable(fd))).collect();
        close(reader);
        for fiber in waiting {
            assert_eq!(
                fiber.join().unwrap().unwrap_err().raw_os_error(),
                Some(libc::EBADF)
            );
        }
    });
}

#[test]
fn closing_wakes_plain_threads() {
    // A thread that is late must not find another test's descriptor under the number.
    run_in_child("child_closes_under_threads");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn child_closes_under_threads() {
    if !is_child() {
        return;
    }
    let _watchdog = net_support::Watchdog::new();
    for _ in 0..20 {
        let (reader, _writer) = pipe_with_number(500);
        let fd = reader.as_raw_fd();
        let thread = spawn_polling(move || wait_readable(fd, None));
        close(reader);
        assert_eq!(
            thread.join().unwrap().unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
    }
}

#[test]
fn who_comes_while_a_descriptor_is_closed_finds_it_closed() {
    // Other tests would take the number.
    run_in_child("child_comes_late");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn child_comes_late() {
    if !is_child() {
        return;
    }
    on_workers(|runtime| {
        for round in 0..100 {
            let (reader, _writer) = pipe_with_number(500);
            let fd = reader.as_raw_fd();
            let early = (round % 2 == 0).then(|| spawn_waiting(runtime, readable(fd)));
            let closing = closing(fd);
            // Too late to be woken by `closing`, too early to find it closed.
            let late = spawn_waiting(runtime, readable(fd));
            drop(reader);
            drop(closing);
            if let Some(early) = early {
                assert_eq!(
                    early.join().unwrap().unwrap_err().raw_os_error(),
                    Some(libc::EBADF)
                );
            }
            assert_eq!(
                late.join().unwrap().unwrap_err().raw_os_error(),
                Some(libc::EBADF)
            );
        }
    });
}

#[test]
fn a_reused_number_is_another_descriptor() {
    // Other tests would take the numbers.
    run_in_child("child_reuses_numbers");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn child_reuses_numbers() {
    if !is_child() {
        return;
    }
    // One worker: a fiber that has said that it waits is parked when another runs.
    let _watchdog = net_support::Watchdog::new();
    let runtime = net_support::runtime(1);
    runtime
        .spawn(|| {
            let mut rng = Rng::new(3);
            let spawn_waiting = |fd| spawn_waiting_here(readable(fd));
            for _ in 0..1000 {
                let (old, mut old_writer) = pipe_with_number(500);
                let fd = old.as_raw_fd();
                let old_wait = spawn_waiting(fd);
                if rng.below(2) == 0 {
                    // An event that is on its way when the descriptor goes.
                    old_writer.write_all(b"x").unwrap();
                }
                close(old);
                let (new, mut new_writer) = pipe_with_number(500);
                assert_eq!(new.as_raw_fd(), fd, "the number is used again");
                let new_wait = spawn_waiting(fd);
                let old = old_wait.join().unwrap();
                assert_eq!(old.unwrap_err().raw_os_error(), Some(libc::EBADF));
                assert!(!new_wait.is_done(), "nothing was written to the new pipe");
                if rng.below(2) == 0 {
                    new_writer.write_all(b"x").unwrap();
                    new_wait.join().unwrap().unwrap();
                } else {
                    new_wait.cancel();
                    assert!(is_cancelled(&new_wait.join().unwrap().unwrap_err()));
                }
            }
        })
        .join()
        .unwrap();
}

#[test]
fn numbers_are_reused_under_many_workers() {
    // Sockets of ours say by themselves that they close, so nothing need be in step.
    use roving_runtime::net::UnixStream;
    use std::sync::Arc;
    on_workers(|runtime| {
        let mut seeds = Rng::new(4);
        let seeds: Vec<u64> = (0..8).map(|_| seeds.below(u64::MAX)).collect();
        runtime.handle().scope(|scope| {
            for seed in seeds {
                scope.spawn(move || {
                    let mut rng = Rng::new(seed);
                    for round in 0..200_u32 {
                        let (one, mut other) = UnixStream::pair().unwrap();
                        let one = Arc::new(one);
                        let theirs = one.clone();
                        let reader = roving_runtime::spawn(move || {
                            let mut buf = [0; 4];
                            (&*theirs).read_exact(&mut buf).map(|()| u32::from_ne_bytes(buf))
                        });
                        for _ in 0..rng.below(3) {
                            roving_runtime::yield_now();
                        }
                        if rng.below(2) == 0 {
                            one.close();
                            let error = reader.join().unwrap().unwrap_err();
                            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
                        } else {
                            other.write_all(&round.to_ne_bytes()).unwrap();
                            assert_eq!(reader.join().unwrap().unwrap(), round);
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn a_descriptor_replaced_without_a_word_is_noticed() {
    // One worker: see above.
    let _watchdog = net_support::Watchdog::new();
    let runtime = net_support::runtime(1);
    runtime
        .spawn(|| {
            let wait = |fd| spawn_waiting_here(readable(fd));
            let (old, _old_writer) = pipe().unwrap();
            let (new, mut new_writer) = pipe().unwrap();
            let forgotten = wait(old.as_raw_fd());
            // SAFETY: both are open.
            assert!(unsafe { libc::dup2(new.as_raw_fd(), old.as_raw_fd()) } >= 0);
            assert!(!forgotten.is_done());
            let waiting = wait(old.as_raw_fd());
            // The newcomer found that the number stands for another file, and told the old waiter.
            assert_eq!(
                forgotten.join().unwrap().unwrap_err().raw_os_error(),
                Some(libc::EBADF)
            );
            assert!(!waiting.is_done());
            new_writer.write_all(b"x").unwrap();
            waiting.join().unwrap().unwrap();
        })
        .join()
        .unwrap();
}

#[test]
fn duplicates_are_descriptors_of_their_own() {
    on_workers(|runtime| {
        let (reader, mut writer) = pipe().unwrap();
        let duplicate = reader.try_clone().unwrap();
        let first = spawn_waiting(runtime, readable(reader.as_raw_fd()));
        let second = spawn_waiting(runtime, readable(duplicate.as_raw_fd()));
        close(reader);
        assert_eq!(
            first.join().unwrap().unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
        assert!(!second.is_done());
        writer.write_all(b"x").unwrap();
        second.join().unwrap().unwrap();
    });
}

#[test]
fn several_descriptors_are_waited_for_at_once() {
    on_workers(|runtime| {
        let test = || {
            let pipes: Vec<_> = (0..20).map(|_| pipe().unwrap()).collect();
            let mut fds: Vec<_> = pipes
                .iter()
                .map(|(reader, _)| PollFd::new(reader.as_raw_fd(), true, false))
                .collect();
            fds.push(PollFd::new(-1, true, true));
            assert_eq!(wait_fds(&mut fds, Some(Duration::from_millis(1))).unwrap(), 0);
            for nth in [3, 19] {
                (&pipes[nth].1).write_all(b"x").unwrap();
                assert_eq!(wait_fds(&mut fds, None).unwrap(), 1);
                assert!(fds[nth].ready.readable);
                assert_eq!(fds.iter().filter(|fd| fd.ready != Default::default()).count(), 1);
                let _ = (&pipes[nth].0).read(&mut [0]).unwrap();
            }
            assert_eq!(wait_fds(&mut [], Some(Duration::from_millis(1))).unwrap(), 0);
            let invalid = PollFd::new(999_999, true, false);
            assert_eq!(wait_fds(&mut [fds[0], invalid], None).unwrap(), 1);
        };
        runtime.spawn(test).join().unwrap();
        std::thread::spawn(test).join().unwrap();

        let (one, other) = (pipe().unwrap(), pipe().unwrap());
        let fds = [&one, &other].map(|(reader, _)| PollFd::new(reader.as_raw_fd(), true, false));
        let waiting = spawn_waiting(runtime, move |waits| {
            waits.raise();
            let mut fds = fds;
            wait_fds(&mut fds, None).map(|count| (count, fds[1].ready.invalid))
        });
        close(other.0);
        assert_eq!(waiting.join().unwrap().unwrap(), (1, true));
    });
}

#[test]
fn waits_end_by_timeout_and_cancellation() {
    on_workers(|runtime| {
        let (reader, _writer) = pipe().unwrap();
        let fd = reader.as_raw_fd();
        let wait = move || {
            let timeout = Duration::from_millis(2);
            let begun = Instant::now();
            assert_eq!(
                wait_readable(fd, Some(timeout)).unwrap_err().kind(),
                ErrorKind::TimedOut
            );
            assert!(begun.elapsed() >= timeout);
        };
        runtime.spawn(wait).join().unwrap();
        std::thread::spawn(wait).join().unwrap();
        let waiting = spawn_waiting(runtime, readable(fd));
        waiting.cancel();
        assert!(is_cancelled(&waiting.join().unwrap().unwrap_err()));
        let waiting = spawn_waiting(runtime, move |waits| {
            waits.raise();
            wait_fds(
                &mut [PollFd::new(fd, true, true), PollFd::new(-1, true, true)],
                None,
            )
        });
        waiting.cancel();
        assert!(is_cancelled(&waiting.join().unwrap().unwrap_err()));
    });
}

#[test]
fn sockets_of_ours_may_be_waited_for_by_number() {
    on_workers(|runtime| {
        let (one, mut other) = roving_runtime::net::UnixStream::pair().unwrap();
        let one = std::sync::Arc::new(one);
        let by_number = spawn_waiting(runtime, readable(one.as_raw_fd()));
        let theirs = one.clone();
        let by_call = spawn_waiting(runtime, move |waits| {
            waits.raise();
            theirs.peek(&mut [0; 9])
        });
        other.write_all(b"x").unwrap();
        by_number.join().unwrap().unwrap();
        assert_eq!(by_call.join().unwrap().unwrap(), 1);
        assert_eq!(one.read(&mut [0; 9]).unwrap(), 1);
        let by_number = spawn_waiting(runtime, readable(one.as_raw_fd()));
        one.close();
        assert_eq!(
            by_number.join().unwrap().unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
    });
}

#[test]
fn an_epoll_of_somebodys_can_be_waited_for() {
    on_workers(|runtime| {
        // SAFETY: takes no pointers.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(epoll >= 0);
        // SAFETY: just made.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let (reader, mut writer) = pipe().unwrap();
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 0,
        };
        // SAFETY: three valid descriptors and an event.
        unsafe {
            libc::epoll_ctl(
                epoll.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                reader.as_raw_fd(),
                &raw mut event,
            )
        };
        let waiting = spawn_waiting(runtime, readable(epoll.as_raw_fd()));
        writer.write_all(b"x").unwrap();
        waiting.join().unwrap().unwrap();
    });
}
