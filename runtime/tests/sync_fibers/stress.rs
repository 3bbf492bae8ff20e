//! Everything at once, by chance: fibers and threads that send, receive, select, lock, give up and are cancelled.
//! At the end the books must balance. `ROVING_SEED` repeats a run (its choices, not its timing),
//! `ROVING_STRESS_SECONDS` makes it longer.

use crate::common::Rng;
use crate::support::{on_each, until};
use roving_runtime::sync::channel::{Receiver, Select, Sender, bounded};
use roving_runtime::sync::{Condvar, Event, Mutex, RwLock, Semaphore};
use roving_runtime::{Fiber, Handle, checkpoint, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const CAPACITIES: [usize; 6] = [0, 0, 1, 3, 40, usize::MAX];
const PERMITS: usize = 4;

/// What all share.
struct World {
    stop: AtomicBool,
    channels: Vec<(Sender<u64>, Receiver<u64>)>,
    mutex: Mutex<(u64, u64)>,
    changed: Condvar,
    lock: RwLock<(u64, u64)>,
    semaphore: Semaphore,
    inside: AtomicUsize,
    event: Event,
    next_id: AtomicUsize,
    fibers: std::sync::Mutex<Vec<Fiber>>,
    alive: AtomicUsize,
}

/// What one has done, for the books.
#[derive(Default)]
struct Books {
    sent: Vec<u64>,
    received: Vec<u64>,
}

/// One that acts.
struct Actor {
    world: Arc<World>,
    rng: Rng,
    books: Books,
}

impl Actor {
    fn new(world: &Arc<World>, seed: u64) -> Self {
        Self {
            world: world.clone(),
            rng: Rng(seed),
            books: Books::default(),
        }
    }

    fn pick(&mut self, among: usize) -> usize {
        self.rng.below(among as u64) as usize
    }

    fn timeout(&mut self) -> Duration {
        Duration::from_micros(self.rng.below(80))
    }

    fn new_id(&self) -> u64 {
        self.world.next_id.fetch_add(1, SeqCst) as u64
    }

    /// Acts until told to stop, or cancelled.
    fn run(mut self) -> Books {
        while !self.world.stop.load(SeqCst) && checkpoint().is_ok() {
            match self.rng.below(12) {
                0..=2 => self.send(),
                3..=5 => self.recv(),
                6..=7 => self.select(),
                8 => self.use_mutex(),
                9 => self.use_lock(),
                10 => self.use_semaphore(),
                _ => self.use_event(),
            }
        }
        self.books
    }

    fn send(&mut self) {
        let world = self.world.clone();
        let (sender, _) = &world.channels[self.pick(CAPACITIES.len())];
        let id = self.new_id();
        let timeout = self.timeout();
        let sent = match self.rng.below(3) {
            0 => sender
                .send(id)
                .map_err(roving_runtime::sync::channel::SendError::into_inner),
            1 => sender
                .send_timeout(id, timeout)
                .map_err(roving_runtime::sync::channel::SendTimeoutError::into_inner),
            _ => sender
                .try_send(id)
                .map_err(roving_runtime::sync::channel::TrySendError::into_inner),
        };
        match sent {
            Ok(()) => self.books.sent.push(id),
            Err(back) => assert_eq!(back, id),
        }
    }

    fn recv(&mut self) {
        let world = self.world.clone();
        let (_, receiver) = &world.channels[self.pick(CAPACITIES.len())];
        let timeout = self.timeout();
        let received = match self.rng.below(3) {
            0 => receiver.recv().ok(),
            1 => receiver.recv_timeout(timeout).ok(),
            _ => receiver.try_recv().ok(),
        };
        self.books.received.extend(received);
    }

    fn select(&mut self) {
        let world = self.world.clone();
        let mut select = Select::new();
        let mut cases = Vec::new();
        for _ in 0..1 + self.pick(5) {
            // Also several times the same, and both ends.
            let channel = self.pick(CAPACITIES.len());
            let (sender, receiver) = &world.channels[channel];
            let id = (self.rng.below(2) == 0).then(|| self.new_id());
            match id {
                Some(id) => select.send(sender, id),
                None => select.recv(receiver),
            };
            cases.push((channel, id));
        }
        let timeout = self.timeout();
        let done = match self.rng.below(3) {
            0 => select.wait().ok(),
            1 => select.wait_timeout(timeout).ok(),
            _ => select.try_wait().ok(),
        };
        let Some(done) = done else { return };
        let index = done.index();
        let (channel, id) = cases[index];
        let (sender, receiver) = &world.channels[channel];
        match id {
            Some(id) => match done.send(sender) {
                Ok(()) => self.books.sent.push(id),
                Err(error) => assert_eq!(error.into_inner(), id),
            },
            None => self.books.received.extend(done.recv(receiver).ok()),
        }
        // The others have not been sent, and come back as they were.
        for (other, (channel, id)) in cases.into_iter().enumerate() {
            if other != index && id.is_some() {
                assert_eq!(select.take_unsent(other, &world.channels[channel].0), id);
            }
        }
    }

    fn use_mutex(&mut self) {
        let world = self.world.clone();
        let timeout = self.timeout();
        let Ok(mut guard) = world.mutex.lock_timeout(timeout) else {
            return;
        };
        assert_eq!(guard.0, guard.1);
        guard.0 += 1;
        if self.rng.below(4) == 0 {
            yield_now();
        }
        guard.1 += 1;
        match self.rng.below(4) {
            0 => _ = world.changed.notify_one(),
            1 => world.changed.notify_all(),
            2 => {
                let guard = match world.changed.wait_timeout(guard, timeout) {
                    Ok((guard, _)) => guard,
                    Err(error) => error.into_guard(),
                };
                assert_eq!(guard.0, guard.1);
            }
            _ => {}
        }
    }

    fn use_lock(&mut self) {
        let world = self.world.clone();
        let timeout = self.timeout();
        if self.rng.below(3) == 0 {
            let Ok(mut guard) = world.lock.write_timeout(timeout) else {
                return;
            };
            guard.0 += 1;
            yield_now();
            guard.1 += 1;
        } else {
            let Ok(guard) = world.lock.read_timeout(timeout) else {
                return;
            };
            yield_now();
            assert_eq!(guard.0, guard.1);
        }
    }

    fn use_semaphore(&mut self) {
        let world = self.world.clone();
        let (wanted, timeout) = (1 + self.pick(PERMITS), self.timeout());
        let Ok(_permit) = world.semaphore.acquire_many_timeout(wanted, timeout) else {
            return;
        };
        assert!(world.inside.fetch_add(wanted, SeqCst) + wanted <= PERMITS);
        yield_now();
        world.inside.fetch_sub(wanted, SeqCst);
    }

    fn use_event(&mut self) {
        let world = self.world.clone();
        match self.rng.below(3) {
            0 => world.event.set(),
            1 => world.event.clear(),
            _ => _ = world.event.wait_timeout(self.timeout()),
        }
    }
}

/// A fiber that acts until it is cancelled, and then is followed by another.
fn spawn_actor(handle: &Handle, world: &Arc<World>, books: &Arc<std::sync::Mutex<Books>>, seed: u64) {
    let (next, world_there, books_there) = (handle.clone(), world.clone(), books.clone());
    world.alive.fetch_add(1, SeqCst);
    let fiber = handle.spawn(move || {
        let own = Actor::new(&world_there, seed).run();
        {
            let mut books = books_there.lock().unwrap();
            books.sent.extend(own.sent);
            books.received.extend(own.received);
        }
        if !world_there.stop.load(SeqCst) {
            spawn_actor(
                &next,
                &world_there,
                &books_there,
                seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            );
        }
        world_there.alive.fetch_sub(1, SeqCst);
    });
    let mut fibers = world.fibers.lock().unwrap();
    fibers.retain(|fiber| !fiber.is_done());
    fibers.push(fiber.fiber());
}

#[test]
fn the_books_balance() {
    let seed = match std::env::var("ROVING_SEED") {
        Ok(seed) => seed.parse().expect("ROVING_SEED is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
    };
    println!("ROVING_SEED={seed}");
    let seconds = std::env::var("ROVING_STRESS_SECONDS").map_or(0.2, |seconds| seconds.parse().unwrap());
    on_each(|runtime| {
        let world = Arc::new(World {
            stop: AtomicBool::new(false),
            channels: CAPACITIES.map(bounded).into_iter().collect(),
            mutex: Mutex::new((0, 0)),
            changed: Condvar::new(),
            lock: RwLock::new((0, 0)),
            semaphore: Semaphore::new(PERMITS),
            inside: AtomicUsize::new(0),
            event: Event::new(),
            next_id: AtomicUsize::new(0),
            fibers: std::sync::Mutex::default(),
            alive: AtomicUsize::new(0),
        });
        let books = Arc::new(std::sync::Mutex::new(Books::default()));
        let mut rng = Rng(seed);
        for _ in 0..16 {
            spawn_actor(runtime.handle(), &world, &books, rng.next());
        }
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let actor = Actor::new(&world, rng.next());
                std::thread::spawn(move || actor.run())
            })
            .collect();
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < end {
            let fiber = {
                let fibers = world.fibers.lock().unwrap();
                fibers[rng.below(fibers.len() as u64) as usize].clone()
            };
            // A fiber that never started would not be followed by another.
            if fiber.is_done()
                || runtime
                    .handle()
                    .dump()
                    .iter()
                    .any(|started| started.id == fiber.id())
            {
                fiber.cancel();
            }
            std::thread::yield_now();
        }
        world.stop.store(true, SeqCst);
        world.channels.iter().for_each(|(sender, _)| _ = sender.close());
        for thread in threads {
            let own = thread.join().unwrap();
            let mut books = books.lock().unwrap();
            books.sent.extend(own.sent);
            books.received.extend(own.received);
        }
        until(|| world.alive.load(SeqCst) == 0);
        let Books {
            mut sent,
            mut received,
        } = std::mem::take(&mut *books.lock().unwrap());
        world
            .channels
            .iter()
            .for_each(|(_, receiver)| received.extend(receiver.try_iter()));
        println!("{} values sent, of {}", sent.len(), world.next_id.load(SeqCst));
        sent.sort_unstable();
        received.sort_unstable();
        assert!(!sent.is_empty());
        assert_eq!(sent, received);
        assert_eq!(world.semaphore.available_permits(), PERMITS);
        let guard = world.mutex.try_lock().unwrap();
        assert_eq!(guard.0, guard.1);
        let guard = world.lock.try_write().unwrap();
        assert_eq!(guard.0, guard.1);
    });
}
