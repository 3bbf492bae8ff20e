//! Where descriptors register: with the worker that runs here, or, for futures polled on plain threads, with
//! a driver of our own on a thread of its own, begun when the first of them waits.

use super::driver::PollDriver;
use super::record::Registrar;
use crate::fiber::clock::TimeSource;
use crate::loom::sync::{Arc, Mutex, OnceLock};
use crate::loom::thread;
use crate::scheduler::{self, driver::Driver};
use std::any::Any;
use std::io;

/// Calls `f` with the registrar of here.
pub(super) fn with_registrar(mut f: impl FnMut(&Arc<Registrar>) -> io::Result<()>) -> io::Result<()> {
    let here = scheduler::with_current_driver(|driver| {
        let driver: &dyn Any = driver;
        let registrar = driver.downcast_ref::<PollDriver>()?.registrar();
        if registrar.is_of_parent() {
            return None;
        }
        // The place of a spare worker that left may have got a new one.
        registrar.open();
        Some(f(registrar))
    });
    match here.flatten() {
        Some(result) => result,
        None => f(&elsewhere()?),
    }
}

fn elsewhere() -> io::Result<Arc<Registrar>> {
    static ELSEWHERE: OnceLock<Mutex<Option<Arc<Registrar>>>> = OnceLock::new();
    let mut elsewhere = ELSEWHERE.get_or_init(Mutex::default).lock();
    // A fork leaves the thread behind.
    if let Some(registrar) = elsewhere.as_ref().filter(|registrar| !registrar.is_of_parent()) {
        return Ok(registrar.clone());
    }
    let driver = PollDriver::new(Arc::new(TimeSource::new()))?;
    let registrar = driver.registrar().clone();
    thread::Builder::new()
        .name("roving-reactor".to_owned())
        .spawn(move || run(&driver))?;
    Ok(elsewhere.insert(registrar).clone())
}

fn run(driver: &PollDriver) {
    let _abort = AbortOnPanic;
    loop {
        driver.park(None);
    }
}

/// A waker that panics would leave futures that nobody wakes.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("roving: a waker panicked in the reactor; aborting");
            std::process::abort();
        }
    }
}
