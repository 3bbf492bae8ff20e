//! Channels among plain threads. With fibers: `runtime/tests/channel_*.rs`.

mod select;

use super::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError, bounded,
    rendezvous, unbounded,
};
use crate::sync::test::{LONG, SHORT, until};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

#[test]
fn values_arrive_in_order() {
    for capacity in [0, 1, 7, usize::MAX] {
        let (sender, receiver) = bounded(capacity);
        thread::scope(|s| {
            s.spawn(move || (0..2000).for_each(|value| sender.send(value).unwrap()));
            assert!(receiver.iter().eq(0..2000));
        });
    }
}

#[test]
fn as_many_as_there_is_room_for() {
    let (sender, receiver) = bounded(2);
    assert_eq!((sender.capacity(), receiver.capacity()), (Some(2), Some(2)));
    sender.try_send(1).unwrap();
    sender.try_send(2).unwrap();
    assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
    assert_eq!((sender.len(), receiver.len()), (2, 2));
    assert_eq!(receiver.try_recv(), Ok(1));
    sender.try_send(3).unwrap();
    assert!(receiver.try_iter().eq([2, 3]));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert!(sender.is_empty() && receiver.is_empty());
    assert_eq!(unbounded::<()>().0.capacity(), None);
    // Takes no memory before there are values.
    assert_eq!(
        bounded::<[u8; 4096]>(usize::MAX - 1).0.capacity(),
        Some(usize::MAX - 1)
    );
}

#[test]
fn without_a_buffer_both_must_be_there() {
    let (sender, receiver) = rendezvous();
    assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    thread::scope(|s| {
        s.spawn(|| sender.send(1).unwrap());
        until(|| sender.waiting().0 == 1);
        assert_eq!(receiver.try_recv(), Ok(1));
        s.spawn(|| assert_eq!(receiver.recv(), Ok(2)));
        until(|| sender.waiting().1 == 1);
        sender.try_send(2).unwrap();
    });
    assert_eq!(sender.capacity(), Some(0));
}

#[test]
fn who_waits_to_send_comes_before_who_just_comes() {
    let (sender, receiver) = bounded(1);
    sender.send(1).unwrap();
    thread::scope(|s| {
        s.spawn(|| sender.send(2).unwrap());
        until(|| sender.waiting().0 == 1);
        assert_eq!(receiver.recv(), Ok(1));
        // The one that waited has the room.
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        assert_eq!(receiver.recv(), Ok(2));
    });
}

#[test]
fn timeouts_hand_the_value_back() {
    let (sender, receiver) = rendezvous::<String>();
    let sent = sender.send_timeout("back".to_owned(), SHORT);
    assert_eq!(sent, Err(SendTimeoutError::TimedOut("back".to_owned())));
    assert_eq!(
        sender
            .send_deadline("too".to_owned(), Instant::now())
            .unwrap_err()
            .into_inner(),
        "too"
    );
    assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::TimedOut));
    assert_eq!(
        receiver.recv_deadline(Instant::now()),
        Err(RecvTimeoutError::TimedOut)
    );
    assert_eq!(sender.waiting(), (0, 0));
    thread::scope(|s| {
        s.spawn(|| sender.send_timeout("there".to_owned(), LONG).unwrap());
        assert_eq!(receiver.recv_timeout(LONG).as_deref(), Ok("there"));
    });
}

#[test]
fn closing_ends_all_waits_and_leaves_what_is_in_the_buffer() {
    let (sender, receiver) = bounded(2);
    let (_idle, none_comes) = bounded::<u32>(1);
    sender.send(0).unwrap();
    sender.send(1).unwrap();
    thread::scope(|s| {
        let senders: Vec<_> = (2..40)
            .map(|value| {
                s.spawn({
                    let sender = &sender;
                    move || sender.send(value)
                })
            })
            .collect();
        let receivers: Vec<_> = (0..40).map(|_| s.spawn(|| none_comes.recv())).collect();
        until(|| sender.waiting().0 == 38 && none_comes.waiting().1 == 40);
        assert!(receiver.close() && none_comes.close());
        for (value, sender) in (2..40).zip(senders) {
            assert_eq!(sender.join().unwrap(), Err(SendError::Closed(value)));
        }
        for receiver in receivers {
            assert_eq!(receiver.join().unwrap(), Err(RecvError::Closed));
        }
    });
    assert!(!sender.close() && sender.is_closed() && receiver.is_closed());
    assert_eq!(sender.send(9), Err(SendError::Closed(9)));
    assert_eq!(sender.try_send(9), Err(TrySendError::Closed(9)));
    assert_eq!(sender.send_timeout(9, LONG), Err(SendTimeoutError::Closed(9)));
    assert!(receiver.iter().eq([0, 1]));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(receiver.recv_timeout(LONG), Err(RecvTimeoutError::Closed));
}

#[test]
fn the_last_sender_closes() {
    let (sender, receiver) = unbounded();
    let other = sender.clone();
    assert!(sender.same_channel(&other));
    sender.send(1).unwrap();
    drop(sender);
    assert!(!receiver.is_closed());
    other.send(2).unwrap();
    thread::scope(|s| {
        let all = s.spawn(|| receiver.iter().collect::<Vec<_>>());
        until(|| receiver.is_empty());
        drop(other);
        assert_eq!(all.join().unwrap(), [1, 2]);
    });
}

#[test]
fn with_the_last_receiver_goes_what_it_could_have_received() {
    let value = Arc::new(());
    let (sender, receiver) = bounded(2);
    sender.send(value.clone()).unwrap();
    sender.send(value.clone()).unwrap();
    let other = receiver.clone();
    assert!(receiver.same_channel(&other));
    thread::scope(|s| {
        let waiting = s.spawn(|| sender.send(value.clone()));
        until(|| sender.waiting().0 == 1);
        drop(receiver);
        assert_eq!(Arc::strong_count(&value), 4);
        drop(other);
        let SendError::Closed(back) = waiting.join().unwrap().unwrap_err() else {
            panic!("it is closed")
        };
        assert!(Arc::ptr_eq(&back, &value));
    });
    assert_eq!(Arc::strong_count(&value), 1);
    assert!(sender.send(value.clone()).is_err());
}

/// A value may hold an end of its own channel.
#[test]
fn a_channel_of_itself_is_freed() {
    struct Holds(
        #[allow(dead_code, reason = "held for its drop")] Option<super::Sender<Holds>>,
        Arc<()>,
    );
    let alive = Arc::new(());
    let (sender, receiver) = unbounded();
    sender.send(Holds(Some(sender.clone()), alive.clone())).unwrap();
    drop(sender);
    drop(receiver);
    assert_eq!(Arc::strong_count(&alive), 1);
    // And whose destructor uses it.
    impl Drop for Holds {
        fn drop(&mut self) {
            if let Some(sender) = &self.0 {
                assert!(sender.send(Holds(None, self.1.clone())).is_err());
            }
        }
    }
}

#[test]
fn every_value_goes_to_one_receiver() {
    let (sender, receiver) = bounded(3);
    let mut all: Vec<u32> = thread::scope(|s| {
        for producer in 0..3 {
            let sender = sender.clone();
            s.spawn(move || (0..1000).for_each(|value| sender.send(producer * 1000 + value).unwrap()));
        }
        drop(sender);
        let consumers: Vec<_> = (0..3)
            .map(|_| s.spawn(|| receiver.iter().collect::<Vec<_>>()))
            .collect();
        consumers
            .into_iter()
            .flat_map(|consumer| consumer.join().unwrap())
            .collect()
    });
    all.sort_unstable();
    assert!(all.into_iter().eq(0..3000));
}

#[test]
fn iterators_end_with_the_channel() {
    let (sender, receiver) = unbounded();
    (0..3).for_each(|value| sender.send(value).unwrap());
    drop(sender);
    let mut seen = Vec::new();
    for value in &receiver {
        seen.push(value);
    }
    assert_eq!(seen, [0, 1, 2]);
    assert_eq!(receiver.into_iter().next(), None);
}

#[test]
fn errors_say_what_happened() {
    assert_eq!(SendError::Closed(1).to_string(), "the channel is closed");
    assert_eq!(
        format!("{:?}", SendError::Cancelled(std::cell::Cell::new(1))),
        "Cancelled(..)"
    );
    assert_eq!(
        RecvError::Closed.to_string(),
        "the channel is closed and has no values left"
    );
    assert_eq!(TrySendError::Full(1).into_inner(), 1);
}
