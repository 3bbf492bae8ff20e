//! Channels that all share, of every kind; and chains of fibers with channels of their own, where also the order
//! is checked. Each message is sent and received once, or comes back to its sender.

use crate::common::Rng;
use crate::storm::{Count, Storm, add, pass_time, short, total};
use roving_runtime::sync::channel::{
    Receiver, Select, SendError, SendTimeoutError, Sender, TrySendError, bounded, unbounded,
};
use std::sync::Arc;
use std::time::Duration;

/// Of the shared channels; the last one is unbounded.
const CAPACITIES: [usize; 5] = [0, 0, 1, 5, usize::MAX];
/// Beyond this many in the unbounded channel, nobody sends.
const FULL: usize = 10_000;

pub(crate) struct Channels {
    shared: Vec<(Sender<Message>, Receiver<Message>)>,
    books: Arc<Books>,
}

#[derive(Default)]
struct Books {
    next: Count,
    sent: Count,
    received: Count,
    /// Sums of what was sent and received, so that no message stands in for another.
    sent_sum: Count,
    received_sum: Count,
    returned: Count,
    /// Messages that came to an end in nobody's hands.
    lost: Count,
    chains: Count,
}

/// To be received or taken back by somebody.
struct Message {
    id: u64,
    /// In nobody's hands.
    under_way: bool,
    books: Arc<Books>,
}

impl Message {
    /// Takes it out of the channels' hands.
    fn take(mut self) -> u64 {
        self.under_way = false;
        self.id
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if self.under_way {
            add(&self.books.lost, 1);
        }
    }
}

/// So that a missing message shows in a sum.
fn mix(id: u64) -> u64 {
    Rng(id).next() >> 20
}

impl Channels {
    pub(crate) fn new() -> Self {
        Self {
            shared: CAPACITIES
                .into_iter()
                .map(|capacity| match capacity {
                    usize::MAX => unbounded(),
                    _ => bounded(capacity),
                })
                .collect(),
            books: Arc::default(),
        }
    }

    fn message(&self) -> Message {
        Message {
            id: self.books.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            under_way: true,
            books: self.books.clone(),
        }
    }

    fn note_sent(&self, id: u64) {
        add(&self.books.sent, 1);
        add(&self.books.sent_sum, mix(id));
    }

    fn note_received(&self, message: Message) {
        add(&self.books.received, 1);
        add(&self.books.received_sum, mix(message.take()));
    }

    fn note_returned(&self, message: Message, id: u64) {
        assert_eq!(message.take(), id, "what comes back is what was to be sent");
        add(&self.books.returned, 1);
    }

    fn any(&self, rng: &mut Rng) -> &(Sender<Message>, Receiver<Message>) {
        &self.shared[rng.below(self.shared.len() as u64) as usize]
    }

    pub(crate) fn use_one(&self, rng: &mut Rng) {
        match rng.below(6) {
            0 | 1 => self.send(rng),
            2 | 3 => self.recv(rng),
            _ => self.select(rng, None),
        }
    }

    fn send(&self, rng: &mut Rng) {
        let (sender, _) = self.any(rng);
        if sender.len() >= FULL {
            return;
        }
        let message = self.message();
        let id = message.id;
        let sent = match rng.below(3) {
            0 => sender.send(message).map_err(SendError::into_inner),
            1 => sender
                .send_timeout(message, short(rng))
                .map_err(SendTimeoutError::into_inner),
            _ => sender.try_send(message).map_err(TrySendError::into_inner),
        };
        match sent {
            Ok(()) => self.note_sent(id),
            Err(back) => self.note_returned(back, id),
        }
    }

    fn recv(&self, rng: &mut Rng) {
        let (_, receiver) = self.any(rng);
        let received = match rng.below(3) {
            0 => receiver.recv().ok(),
            1 => receiver.recv_timeout(short(rng)).ok(),
            _ => receiver.try_recv().ok(),
        };
        if let Some(message) = received {
            self.note_received(message);
        }
    }

    /// Over any of the channels, also several times the same, and both ends of one. `timeout`, or as it comes.
    fn select(&self, rng: &mut Rng, timeout: Option<Duration>) {
        let mut select = Select::new();
        let mut cases = Vec::new();
        for _ in 0..1 + rng.below(5) {
            let (sender, receiver) = self.any(rng);
            if rng.below(2) == 0 && sender.len() < FULL {
                let message = self.message();
                cases.push((sender, receiver, Some(message.id)));
                select.send(sender, message);
            } else {
                cases.push((sender, receiver, None));
                select.recv(receiver);
            }
        }
        let done = match (timeout, rng.below(3)) {
            (Some(timeout), _) => select.wait_timeout(timeout).ok(),
            (None, 0) => select.wait().ok(),
            (None, 1) => select.wait_timeout(short(rng)).ok(),
            (None, _) => select.try_wait().ok(),
        };
        let chosen = done.map(|done| {
            let index = done.index();
            match cases[index] {
                (sender, _, Some(id)) => match done.send(sender) {
                    Ok(()) => self.note_sent(id),
                    Err(error) => self.note_returned(error.into_inner(), id),
                },
                (_, receiver, None) => done
                    .recv(receiver)
                    .into_iter()
                    .for_each(|message| self.note_received(message)),
            }
            index
        });
        for (index, (sender, _, id)) in cases.into_iter().enumerate() {
            if let Some(id) = id
                && chosen != Some(index)
            {
                let back = select.take_unsent(index, sender);
                self.note_returned(back.expect("it was not sent"), id);
            }
        }
    }

    /// Sends where somebody waits and receives where somebody waits: for a plain thread, again and again.
    pub(crate) fn pump(&self, rng: &mut Rng) {
        for (sender, receiver) in &self.shared {
            if let Ok(message) = receiver.try_recv() {
                self.note_received(message);
            }
            let message = self.message();
            let id = message.id;
            match sender.try_send(message) {
                Ok(()) => self.note_sent(id),
                Err(error) => self.note_returned(error.into_inner(), id),
            }
        }
        self.select(rng, Some(Duration::from_micros(200)));
    }

    pub(crate) fn balance(mut self) {
        for (sender, receiver) in &self.shared {
            assert!(sender.close());
            receiver
                .try_iter()
                .for_each(|message| self.note_received(message));
        }
        self.shared.clear();
        let books = &self.books;
        assert_eq!(total(&books.lost), 0, "no message was dropped");
        assert_eq!(
            total(&books.sent),
            total(&books.received),
            "what was sent was received"
        );
        assert_eq!(total(&books.sent_sum), total(&books.received_sum));
        assert_eq!(
            total(&books.next),
            total(&books.sent) + total(&books.returned),
            "what was not sent came back"
        );
        eprintln!(
            "storm: {} messages received, {} came back, {} chains",
            total(&books.received),
            total(&books.returned),
            total(&books.chains)
        );
    }
}

impl Storm {
    /// Fibers that hand values on through channels of their own, each in the order in which it gets them. Any of
    /// them may be cancelled: then what it held ends with it, and the others hear of it.
    pub(crate) fn pass_along(self: &Arc<Self>, rng: &mut Rng) {
        let count = rng.below(40);
        let capacity = [0, 0, 1, 7][rng.below(4) as usize];
        let (first, mut last) = bounded(capacity);
        let mut links = Vec::new();
        for _ in 0..rng.below(3) {
            let (sender, receiver) = bounded(capacity);
            let from = std::mem::replace(&mut last, receiver);
            let seed = rng.next();
            links.push(self.link(seed, move |rng| {
                for value in from.iter() {
                    if rng.below(8) == 0 {
                        pass_time(rng);
                    }
                    if sender.send(value).is_err() {
                        break;
                    }
                }
            }));
        }
        let source = self.link(rng.next(), move |rng| {
            for value in 0..count {
                if rng.below(8) == 0 {
                    pass_time(rng);
                }
                if first.send(value).is_err() {
                    break;
                }
            }
        });
        if rng.below(16) == 0 {
            source.cancel();
        }
        let mut expected = 0;
        while let Ok(value) = last.recv() {
            assert_eq!(value, expected, "in order, none twice and none left out");
            expected += 1;
        }
        let cancelled = roving_runtime::checkpoint().is_err();
        // Whoever still sends learns that nobody listens.
        drop(last);
        links.push(source);
        let whole = links
            .into_iter()
            .map(|link| self.join(link))
            .fold(true, |whole, ended| whole & (ended == Some(true)));
        if whole && !cancelled {
            assert_eq!(expected, count, "all came through");
        }
        add(&self.channels.books.chains, 1);
    }

    /// True when it was not cancelled.
    fn link(
        self: &Arc<Self>,
        seed: u64,
        body: impl FnOnce(&mut Rng) + Send + 'static,
    ) -> roving_runtime::JoinHandle<bool> {
        let storm = self.clone();
        roving_runtime::spawn(self.counted(move || {
            let mut rng = Rng(seed);
            storm.make_known(roving_runtime::current_fiber().expect("in a fiber"), &mut rng);
            body(&mut rng);
            roving_runtime::checkpoint().is_ok()
        }))
    }
}
