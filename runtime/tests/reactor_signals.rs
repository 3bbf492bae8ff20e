//! Signals of the operating system. Each test has signals of its own: they are the process's.

mod net_support;

use net_support::{on_workers, spawn_waiting};
use roving_runtime::{Signals, is_cancelled};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

fn raise(signal: i32) {
    // To the process, as `kill` does it: any thread may get it.
    // SAFETY: takes no pointers.
    assert_eq!(unsafe { libc::kill(std::process::id() as i32, signal) }, 0);
}

#[test]
fn a_fiber_waits_for_signals() {
    on_workers(|runtime| {
        let signals = Arc::new(Signals::new(&[Signals::USER_1, Signals::WINDOW_CHANGE]).unwrap());
        let wait = || {
            let signals = signals.clone();
            spawn_waiting(runtime, move |waits| {
                waits.raise();
                signals.wait()
            })
        };
        let waiting = wait();
        raise(Signals::USER_1);
        assert_eq!(waiting.join().unwrap().unwrap(), Signals::USER_1);
        // One that came before anybody waited is not lost.
        raise(Signals::WINDOW_CHANGE);
        assert_eq!(wait().join().unwrap().unwrap(), Signals::WINDOW_CHANGE);
        let waiting = wait();
        waiting.cancel();
        assert!(is_cancelled(&waiting.join().unwrap().unwrap_err()));
        let none = signals.wait_timeout(Duration::from_millis(1)).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn all_who_ask_for_a_signal_get_it() {
    on_workers(|runtime| {
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let signals = Signals::new(&[Signals::USER_2]).unwrap();
                spawn_waiting(runtime, move |waits| {
                    waits.raise();
                    signals.wait()
                })
            })
            .collect();
        let signals = Signals::new(&[Signals::USER_2]).unwrap();
        let thread = std::thread::spawn(move || signals.wait());
        raise(Signals::USER_2);
        for fiber in waiting {
            assert_eq!(fiber.join().unwrap().unwrap(), Signals::USER_2);
        }
        assert_eq!(thread.join().unwrap().unwrap(), Signals::USER_2);
        // Nobody asks any more: it does nothing.
        raise(Signals::USER_2);
    });
}

#[test]
fn a_child_process_is_heard_of() {
    on_workers(|runtime| {
        let signals = Signals::new(&[Signals::CHILD]).unwrap();
        let waiting = spawn_waiting(runtime, move |waits| {
            waits.raise();
            signals.wait()
        });
        assert!(std::process::Command::new("true").status().unwrap().success());
        assert_eq!(waiting.join().unwrap().unwrap(), Signals::CHILD);
    });
}

#[test]
fn what_cannot_be_waited_for_is_an_error() {
    for signal in [0, -1, 65, 1000, libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV] {
        assert_eq!(
            Signals::new(&[signal]).unwrap_err().kind(),
            ErrorKind::InvalidInput,
            "{signal}"
        );
    }
}
