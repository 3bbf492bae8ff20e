//! Conversations with the servers: by one alone, and by several fibers over one stream.

use crate::client::{Client, Stopped, stopped};
use crate::common::Rng;
use crate::connections::Sockets;
use crate::storm::{Storm, add, pass_time, short};
use roving_runtime::{JoinError, JoinHandle, blocking, checkpoint, current_fiber, spawn};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

impl Storm {
    /// A conversation by one fiber or plain thread.
    pub(crate) fn talk(&self, rng: &mut Rng) {
        let books = &self.sockets;
        let Ok(_place) = books.places.acquire_timeout(short(rng)) else {
            return;
        };
        let Some(mut client) = books.client(rng) else {
            return;
        };
        let outcome = client.rounds(rng).and_then(|()| client.part(rng));
        books.note(outcome);
    }

    /// A conversation in which several fibers take part.
    pub(crate) fn talk_in_fibers(self: &Arc<Self>, rng: &mut Rng) {
        let books = &self.sockets;
        let Ok(_place) = books.places.acquire_timeout(short(rng)) else {
            return;
        };
        let Some(client) = books.client(rng) else {
            return;
        };
        match rng.below(5) {
            0 | 1 => self.read_while_writing(client, rng),
            2 => self.close_under_waiters(&client, rng),
            3 => self.cancel_a_read(client, rng),
            _ => self.share_a_stream(client, rng),
        }
    }

    fn helper<T: Send + 'static>(
        self: &Arc<Self>,
        seed: u64,
        body: impl FnOnce(&Sockets, &mut Rng) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let storm = self.clone();
        spawn(self.counted(move || {
            let mut rng = Rng(seed);
            storm.make_known(current_fiber().expect("in a fiber"), &mut rng);
            body(&storm.sockets, &mut rng)
        }))
    }

    /// Sends so much in pieces from a fiber of its own, then half closes. The fiber returns what it sent.
    fn writer(self: &Arc<Self>, client: &Client<'_>, seed: u64) -> JoinHandle<u64> {
        let (stream, key) = (client.stream.clone(), client.key);
        self.helper(seed, move |books, rng| {
            let mut client = Client {
                stream,
                books,
                key,
                sent: 0,
                received: 0,
            };
            let most = 1 << (8 + rng.below(10));
            let mut left = rng.below(most);
            while left > 0 {
                let count = (1 + rng.below(20_000)).min(left);
                left -= count;
                if client.send(count).is_err() {
                    break;
                }
                if rng.below(8) == 0 {
                    pass_time(rng);
                }
            }
            // The server may be gone: then it hears nothing of it.
            let _ = client.stream.shutdown(Shutdown::Write);
            client.sent
        })
    }

    fn read_while_writing(self: &Arc<Self>, mut client: Client<'_>, rng: &mut Rng) {
        let writer = self.writer(&client, rng.next());
        while let Ok(true) = client.recv(u64::MAX) {}
        // One that was cancelled reads no more: then the writer must not wait for room.
        let _ = client.stream.shutdown(Shutdown::Both);
        let (sent, received) = (self.join(writer).expect("it started"), client.received);
        assert!(received <= sent, "{received} came back of {sent}");
        if received < sent && checkpoint().is_ok() {
            add(&self.sockets.cut_short, 1);
        }
    }

    /// Several read one stream: each byte goes to one of them.
    fn share_a_stream(self: &Arc<Self>, client: Client<'_>, rng: &mut Rng) {
        let received = Arc::new(AtomicU64::new(0));
        let gave_up = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (stream, received, gave_up) = (client.stream.clone(), received.clone(), gave_up.clone());
                self.helper(rng.next(), move |books, rng| {
                    let mut buf = [0; 1024];
                    loop {
                        let size = 1 + rng.below(1024) as usize;
                        match stream.read(&mut buf[..size]) {
                            Ok(0) => return,
                            Ok(count) => {
                                received.fetch_add(count as u64, Ordering::Relaxed);
                                add(&books.received, count as u64);
                            }
                            Err(error) => {
                                if stopped(&error) == Stopped::Cancelled {
                                    gave_up.store(true, Ordering::Relaxed);
                                    // With nobody left to read, the writer would wait for room.
                                    let _ = stream.shutdown(Shutdown::Both);
                                }
                                return;
                            }
                        }
                    }
                })
            })
            .collect();
        let writer = self.writer(&client, rng.next());
        let sent = self.join(writer).expect("it started");
        for reader in readers {
            self.join(reader);
        }
        let received = received.load(Ordering::Relaxed);
        assert!(received <= sent, "{received} came back of {sent}");
        if received < sent && !gave_up.load(Ordering::Relaxed) {
            add(&self.sockets.cut_short, 1);
        }
    }

    /// Fibers, and a thread of the blocking pool, that wait for what never comes: a close ends it for all.
    fn close_under_waiters(self: &Arc<Self>, client: &Client<'_>, rng: &mut Rng) {
        let waiters: Vec<_> = (0..1 + rng.below(3))
            .map(|nth| {
                let stream = client.stream.clone();
                self.helper(rng.next(), move |_, _| {
                    let read = move || stream.read(&mut [0; 16]);
                    if nth != 2 {
                        return read();
                    }
                    match blocking(read) {
                        Ok(read) => read,
                        Err(JoinError::CallerCancelled) => Ok(0),
                        Err(other) => panic!("{other}"),
                    }
                })
            })
            .collect();
        pass_time(rng);
        client.stream.close();
        for waiter in waiters {
            match self.join(waiter) {
                Some(Err(error)) if stopped(&error) == Stopped::Closed => {
                    add(&self.sockets.closed_under_waiters, 1);
                }
                // Cancelled, or the server gave up before.
                Some(Err(_)) | Some(Ok(0)) | None => {}
                Some(Ok(count)) => panic!("{count} bytes out of nothing"),
            }
        }
    }

    /// What a cancelled read has not returned is there for the next one.
    fn cancel_a_read(self: &Arc<Self>, mut client: Client<'_>, rng: &mut Rng) {
        let (stream, key) = (client.stream.clone(), client.key);
        let reader = self.helper(rng.next(), move |books, _| {
            let mut client = Client {
                stream,
                books,
                key,
                sent: 0,
                received: 0,
            };
            let outcome = loop {
                match client.recv(u64::MAX) {
                    Ok(true) => {}
                    Ok(false) => break Stopped::CutShort,
                    Err(stopped) => break stopped,
                }
            };
            (client.received, outcome)
        });
        let sent = client.send(rng.below(8000));
        pass_time(rng);
        reader.cancel();
        let (received, outcome) = self.join(reader).unwrap_or((0, Stopped::Cancelled));
        client.received = received;
        if outcome == Stopped::Cancelled {
            add(&self.sockets.cancelled_reads, 1);
        }
        let outcome = match outcome {
            Stopped::Cancelled => sent.and_then(|()| client.catch_up()),
            other => Err(other),
        };
        self.sockets.note(outcome);
    }
}
