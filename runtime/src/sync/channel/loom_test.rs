//! Models of channels: whatever was sent is received once, or is still there, or came back.

use super::{RecvError, SendError, TryRecvError, bounded};
use crate::sync::loom_test::{SOON, bounded as model, exhaustive};
use loom::thread;

#[test]
fn loom_channel_hand_off() {
    exhaustive(|| {
        let (sender, receiver) = bounded(0);
        let other = thread::spawn(move || {
            sender.send(Box::new(1)).unwrap();
            sender.send(Box::new(2)).unwrap();
        });
        assert_eq!(receiver.recv(), Ok(Box::new(1)));
        assert_eq!(receiver.recv(), Ok(Box::new(2)));
        assert_eq!(receiver.recv(), Err(RecvError::Closed));
        other.join().unwrap();
    });
}

#[test]
fn loom_channel_two_senders_one_place() {
    model(4, || {
        let (sender, receiver) = bounded(1);
        let others = [1, 2].map(|value| {
            let sender = sender.clone();
            thread::spawn(move || sender.send(value).unwrap())
        });
        drop(sender);
        let received = [receiver.recv().unwrap(), receiver.recv().unwrap()];
        assert!(received == [1, 2] || received == [2, 1]);
        assert_eq!(receiver.recv(), Err(RecvError::Closed));
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn loom_channel_a_sender_gives_up() {
    exhaustive(|| {
        let (sender, receiver) = bounded(0);
        let other = thread::spawn(move || {
            sender
                .send_timeout(Box::new(1), SOON)
                .map_err(|error| error.into_inner())
        });
        match receiver.recv() {
            Ok(value) => {
                assert_eq!(*value, 1);
                other.join().unwrap().unwrap();
            }
            Err(RecvError::Closed) => assert_eq!(other.join().unwrap(), Err(Box::new(1))),
            Err(RecvError::Cancelled) => unreachable!(),
        }
    });
}

#[test]
fn loom_channel_a_receiver_gives_up() {
    model(5, || {
        let (sender, receiver) = bounded(1);
        let hasty = receiver.clone();
        let hasty = thread::spawn(move || hasty.recv_timeout(SOON));
        let patient = thread::spawn(move || receiver.recv());
        sender.send(1).unwrap();
        if hasty.join().unwrap().is_ok() {
            sender.send(1).unwrap();
        }
        assert_eq!(patient.join().unwrap(), Ok(1));
    });
}

/// Two receivers, so that waking them takes two batches (of one, under loom).
#[test]
fn loom_channel_closed_while_waiting() {
    model(4, || {
        let (sender, receiver) = bounded(1);
        let receivers = [receiver.clone(), receiver];
        let receivers = receivers.map(|receiver| thread::spawn(move || receiver.recv()));
        sender.send(1).unwrap();
        drop(sender);
        let mut received = receivers.map(|receiver| receiver.join().unwrap());
        received.sort_by_key(Result::is_err);
        assert_eq!(received, [Ok(1), Err(RecvError::Closed)]);
    });
}

#[test]
fn loom_channel_closed_while_sending() {
    exhaustive(|| {
        let (sender, receiver) = bounded(1);
        let senders = [(sender.clone(), 1), (sender.clone(), 2)];
        let senders = senders.map(|(sender, value)| thread::spawn(move || sender.send(Box::new(value))));
        sender.close();
        let mut here = 0;
        while let Ok(value) = receiver.try_recv() {
            here += *value;
        }
        for sender in senders {
            if let Err(SendError::Closed(value)) = sender.join().unwrap() {
                here += *value;
            }
        }
        // One may have come after the look above.
        while let Ok(value) = receiver.try_recv() {
            here += *value;
        }
        assert_eq!(here, 3);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
    });
}

#[test]
fn loom_channel_the_last_receiver_goes() {
    exhaustive(|| {
        let value = std::sync::Arc::new(());
        let (sender, receiver) = bounded(1);
        let other = thread::spawn({
            let value = value.clone();
            move || {
                let _ = sender.send(value.clone());
                let _ = sender.send(value);
            }
        });
        drop(receiver);
        other.join().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&value), 1);
    });
}
