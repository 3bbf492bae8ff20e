//! Fibers: how they spawn, park, wake, cancel, panic and end; and what each does in turn.

use crate::common::Rng;
use crate::storm::{Count, Expected, Storm, add, short, total};
use roving_runtime::{
    Handle, JoinError, JoinHandle, block_on, blocking, checkpoint, current_fiber, park_timeout, scope,
    shield, sleep, spawn, spawn_future, yield_now,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Trees of fibers at once.
const ROOTS: usize = 96;

/// What has become of the storm's fibers.
#[derive(Default)]
pub(crate) struct Ledger {
    spawned: Count,
    returned: Count,
    panicked: Count,
    cancelled: Count,
    dropped: Count,
}

/// Counts that a closure, with all that it owns, was dropped exactly once.
struct Token(Arc<Ledger>);

impl Drop for Token {
    fn drop(&mut self) {
        add(&self.0.dropped, 1);
    }
}

impl Ledger {
    pub(crate) fn balance(&self) {
        let [returned, panicked, cancelled] = [&self.returned, &self.panicked, &self.cancelled].map(total);
        let ended = returned + panicked + cancelled;
        assert_eq!(total(&self.spawned), ended, "every fiber has one end");
        assert_eq!(
            total(&self.spawned),
            total(&self.dropped),
            "every closure is dropped once"
        );
        eprintln!("storm: {ended} fibers, {panicked} panicked, {cancelled} cancelled before they started");
    }

    /// Notes how a fiber ended; what it returned, if it did.
    pub(crate) fn settle<T>(&self, outcome: Result<T, JoinError>) -> Option<T> {
        let (counter, value) = match outcome {
            Ok(value) => (&self.returned, Some(value)),
            Err(JoinError::Panicked(payload)) => {
                if payload.downcast_ref::<Expected>().is_none() {
                    std::panic::resume_unwind(payload);
                }
                (&self.panicked, None)
            }
            Err(JoinError::Cancelled) => (&self.cancelled, None),
            Err(other) => panic!("{other}"),
        };
        add(counter, 1);
        value
    }
}

impl Storm {
    /// Spawns and joins from this thread until the time has come, and until all of it has ended.
    pub(crate) fn rage(self: &Arc<Self>, rng: &mut Rng) {
        let mut roots = VecDeque::new();
        while Instant::now() < self.until {
            while roots.len() < ROOTS {
                roots.push_back(self.root(rng.next()));
            }
            roots
                .drain(..ROOTS / 4)
                .for_each(|root| _ = self.ledger.settle(root.join()));
        }
        roots
            .into_iter()
            .for_each(|root| _ = self.ledger.settle(root.join()));
    }

    pub(crate) fn root(self: &Arc<Self>, seed: u64) -> JoinHandle<u64> {
        let storm = self.clone();
        self.handle.spawn(self.counted(move || storm.act(Rng(seed), 4)))
    }

    /// A closure whose fiber is in the books: whoever spawns it settles it.
    pub(crate) fn counted<T, F: FnOnce() -> T>(&self, body: F) -> impl FnOnce() -> T + use<T, F> {
        add(&self.ledger.spawned, 1);
        let token = Token(self.ledger.clone());
        move || {
            let _token = token;
            body()
        }
    }

    fn child(self: &Arc<Self>, seed: u64, depth: u32) -> JoinHandle<u64> {
        let storm = self.clone();
        let run = self.counted(move || storm.act(Rng(seed), depth));
        let handle = Handle::current().expect("on a worker");
        let builder = handle.fiber();
        let builder = match seed % 16 {
            0 => builder.background(),
            1 => builder.spread(),
            2 => builder.stack_size(128 << 10),
            3 => builder.name(format!("storm-{seed}")),
            _ => return spawn(run),
        };
        builder
            .spawn(run)
            .map_err(|error| error.kind)
            .expect("the runtime runs")
    }

    /// Joins whatever happens to the joiner: its children must be accounted for.
    pub(crate) fn join<T>(&self, child: JoinHandle<T>) -> Option<T> {
        shield(|| self.ledger.settle(child.join()))
    }

    fn act(self: &Arc<Self>, mut rng: Rng, depth: u32) -> u64 {
        let home = std::thread::current().id();
        self.make_known(current_fiber().expect("in a fiber"), &mut rng);
        let mut children = Vec::new();
        let mut steps = 0;
        for _ in 0..rng.below(24) {
            if Instant::now() >= self.until || checkpoint().is_err() {
                break;
            }
            steps += 1;
            // Any of these may find out that it was cancelled; the check above sees it too.
            match rng.below(22) {
                0..=3 if depth > 0 => children.push(self.child(rng.next(), depth - 1)),
                4 => _ = sleep(short(&mut rng)),
                5 => _ = park_timeout(short(&mut rng)),
                6 | 7 => self.pick(&mut rng).iter().for_each(roving_runtime::Fiber::unpark),
                8 if rng.below(8) == 0 => self.pick(&mut rng).iter().for_each(roving_runtime::Fiber::cancel),
                9 => {
                    if let Some(child) = children.pop() {
                        if rng.below(4) == 0 {
                            child.cancel();
                        }
                        self.join(child);
                    }
                }
                10 => futures(&mut rng),
                11 if rng.below(8) == 0 => block(),
                12 => share(),
                13 if rng.below(16) == 0 => {
                    for child in children {
                        self.join(child);
                    }
                    self.locks.panic_inside();
                }
                14 | 15 => self.channels.use_one(&mut rng),
                16 => self.pass_along(&mut rng),
                17 | 18 => self.locks.use_one(&mut rng),
                19 => self.talk(&mut rng),
                20 if rng.below(4) == 0 => self.talk_in_fibers(&mut rng),
                _ => yield_now(),
            }
            assert_eq!(std::thread::current().id(), home, "a started fiber never moves");
        }
        for child in children {
            self.join(child);
        }
        steps
    }
}

fn futures(rng: &mut Rng) {
    let n = rng.below(100);
    // Unless this fiber is cancelled.
    if let Ok(value) = block_on(async move { spawn_future(async move { n }).await }) {
        assert_eq!(value.unwrap(), n);
    }
}

fn block() {
    match blocking(std::thread::yield_now) {
        Ok(()) | Err(JoinError::CallerCancelled) => {}
        Err(other) => panic!("{other}"),
    }
}

fn share() {
    let mut numbers = [1u64; 64];
    let (left, right) = numbers.split_at_mut(32);
    scope(|s| {
        s.spawn(|| left.iter_mut().for_each(|n| *n += 1));
        s.spawn(|| right.iter_mut().for_each(|n| *n += 1));
    });
    // A cancelled owner cancels its scope: then either half may not have run.
    if checkpoint().is_ok() {
        assert_eq!(numbers.iter().sum::<u64>(), 128);
    }
}
