//! Models of select: exactly one operation is done, and none of the others is touched.

use super::{RecvError, Select, TryRecvError, bounded};
use crate::sync::loom_test::{SOON, bounded as model, exhaustive};
use loom::thread;

#[test]
fn loom_select_two_senders_at_once() {
    model(4, || {
        let ends = [bounded(0), bounded(0)];
        let senders = [ends[0].0.clone(), ends[1].0.clone()];
        let senders =
            senders.map(|sender| thread::spawn(move || sender.send_timeout(Box::new(1), SOON).is_ok()));
        let mut select = Select::new();
        for (_, receiver) in &ends {
            select.recv(receiver);
        }
        // Both may have given up before it looked.
        let received = match select.wait_timeout(SOON) {
            Ok(done) => {
                let index = done.index();
                assert_eq!(done.recv(&ends[index].1), Ok(Box::new(1)));
                Some(index)
            }
            Err(_) => None,
        };
        for (index, sender) in senders.into_iter().enumerate() {
            assert_eq!(sender.join().unwrap(), received == Some(index));
        }
        assert!(
            ends.iter()
                .all(|(_, receiver)| receiver.try_recv() == Err(TryRecvError::Empty))
        );
    });
}

#[test]
fn loom_select_waits_and_is_woken() {
    model(4, || {
        let ends = [bounded(0), bounded(0)];
        let (sender, other) = (ends[0].0.clone(), ends[1].0.clone());
        let sender = thread::spawn(move || sender.send(1).unwrap());
        let other = thread::spawn(move || other.try_send(2).is_ok());
        let mut select = Select::new();
        for (_, receiver) in &ends {
            select.recv(receiver);
        }
        let mut seen = 0;
        // The first may be the other's; the sender's comes for sure.
        loop {
            let done = select.wait().unwrap();
            let index = done.index();
            seen += done.recv(&ends[index].1).unwrap();
            if index == 0 {
                break;
            }
        }
        sender.join().unwrap();
        let sent = other.join().unwrap();
        assert_eq!(seen, if sent { 3 } else { 1 });
    });
}

/// Each could send to the other or receive from it: they agree on one of the two.
#[test]
fn loom_select_against_select() {
    exhaustive(|| {
        let (to_a, from_a) = bounded(0);
        let (to_b, from_b) = bounded(0);
        let other = thread::spawn({
            let (to_b, from_a) = (to_b.clone(), from_a.clone());
            move || {
                let mut select = Select::new();
                let recv = select.recv(&from_a);
                let send = select.send(&to_b, Box::new(2));
                let done = select.wait().unwrap();
                if done.index() == recv {
                    assert_eq!(done.recv(&from_a), Ok(Box::new(1)));
                    assert_eq!(select.take_unsent(send, &to_b), Some(Box::new(2)));
                    true
                } else {
                    done.send(&to_b).unwrap();
                    false
                }
            }
        });
        let mut select = Select::new();
        let send = select.send(&to_a, Box::new(1));
        select.recv(&from_b);
        let done = select.wait().unwrap();
        let sent = done.index() == send;
        if sent {
            done.send(&to_a).unwrap();
        } else {
            assert_eq!(done.recv(&from_b), Ok(Box::new(2)));
            assert_eq!(select.take_unsent(send, &to_a), Some(Box::new(1)));
        }
        assert_eq!(other.join().unwrap(), sent);
    });
}

/// A third one takes what one of the two selects offers.
#[test]
fn loom_select_against_select_and_a_third() {
    model(4, || {
        let (to_a, from_a) = bounded(0);
        let (to_b, from_b) = bounded(0);
        let other = thread::spawn({
            let (to_b, from_a) = (to_b.clone(), from_a.clone());
            move || {
                let mut select = Select::new();
                let recv = select.recv(&from_a);
                select.send(&to_b, 2);
                match select.wait_timeout(SOON) {
                    Ok(done) if done.index() == recv => 10 + done.recv(&from_a).unwrap(),
                    Ok(done) => {
                        done.send(&to_b).unwrap();
                        20
                    }
                    Err(_) => 0,
                }
            }
        });
        let third = thread::spawn({
            let from_b = from_b.clone();
            move || from_b.try_recv().unwrap_or(0)
        });
        let mut select = Select::new();
        let send = select.send(&to_a, 1);
        select.recv(&from_b);
        let here = match select.wait_timeout(SOON) {
            Ok(done) if done.index() == send => {
                done.send(&to_a).unwrap();
                10
            }
            Ok(done) => 20 + done.recv(&from_b).unwrap(),
            Err(_) => 0,
        };
        let outcome = (here, other.join().unwrap(), third.join().unwrap());
        assert!(
            [(0, 0, 0), (10, 11, 0), (22, 20, 0), (0, 20, 2)].contains(&outcome),
            "{outcome:?}"
        );
    });
}

#[test]
fn loom_select_closed_while_waiting() {
    model(4, || {
        let ends = [bounded::<u32>(0), bounded(0)];
        let closers = [ends[0].0.clone(), ends[1].0.clone()];
        let closers = closers.map(|sender| thread::spawn(move || sender.close()));
        let mut select = Select::new();
        for (_, receiver) in &ends {
            select.recv(receiver);
        }
        let done = select.wait().unwrap();
        let index = done.index();
        assert_eq!(done.recv(&ends[index].1), Err(RecvError::Closed));
        closers
            .into_iter()
            .for_each(|closer| assert!(closer.join().unwrap()));
    });
}

/// Both ends of one channel: another may have either, and it never has both.
#[test]
fn loom_select_on_both_ends() {
    model(4, || {
        let (sender, receiver) = bounded(0);
        let others = [false, true].map(|sends| {
            let (sender, receiver) = (sender.clone(), receiver.clone());
            thread::spawn(move || {
                if sends {
                    sender.try_send(5).is_ok()
                } else {
                    receiver.try_recv() == Ok(1)
                }
            })
        });
        let mut select = Select::new();
        let send = select.send(&sender, 1);
        select.recv(&receiver);
        let here = match select.wait_timeout(SOON) {
            Ok(done) if done.index() == send => {
                done.send(&sender).unwrap();
                (true, false)
            }
            Ok(done) => {
                assert_eq!(done.recv(&receiver), Ok(5));
                (false, true)
            }
            Err(_) => (false, false),
        };
        let [received, sent] = others.map(|other| other.join().unwrap());
        assert_eq!((received, sent), here);
    });
}
