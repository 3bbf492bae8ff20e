use crate::sync::channel::{
    RecvError, Select, SelectError, SelectTimeoutError, SendError, TryRecvError, TrySelectError, bounded,
    rendezvous, unbounded,
};
use crate::sync::test::{LONG, SHORT, panics, until};
use std::sync::Arc;
use std::thread;

#[test]
fn what_is_ready_is_done() {
    let (numbers, from_numbers) = unbounded();
    let (words, from_words) = bounded(1);
    let (_idle, none_comes) = rendezvous::<Vec<u8>>();
    numbers.send(1).unwrap();
    words.send("full").unwrap();
    let mut select = Select::new();
    let idle = select.recv(&none_comes);
    let send = select.send(&words, "no room");
    let recv = select.recv(&from_numbers);
    assert_eq!((idle, send, recv), (0, 1, 2));
    let done = select.try_wait().unwrap();
    assert_eq!(done.index(), recv);
    assert_eq!(done.recv(&from_numbers), Ok(1));
    assert_eq!(select.try_wait().unwrap_err(), TrySelectError::WouldBlock);
    assert_eq!(from_words.recv(), Ok("full"));
    let done = select.wait().unwrap();
    assert_eq!(done.index(), send);
    done.send(&words).unwrap();
    assert_eq!(from_words.recv(), Ok("no room"));
    // Sent once, though there is room again.
    assert_eq!(
        select.wait_timeout(SHORT).unwrap_err(),
        SelectTimeoutError::TimedOut
    );
    assert_eq!(select.take_unsent(send, &words), None);
}

#[test]
fn the_first_that_comes_ends_the_wait() {
    for winner in [0, 1] {
        let ends = [rendezvous(), rendezvous()];
        thread::scope(|s| {
            s.spawn(|| {
                until(|| ends.iter().all(|(sender, _)| sender.waiting().1 == 1));
                ends[winner].0.try_send(7).unwrap();
            });
            let mut select = Select::new();
            for (_, receiver) in &ends {
                select.recv(receiver);
            }
            let done = select.wait().unwrap();
            assert_eq!(done.index(), winner);
            assert_eq!(done.recv(&ends[winner].1), Ok(7));
        });
        assert!(ends.iter().all(|(sender, _)| sender.waiting() == (0, 0)));
    }
}

#[test]
fn values_that_are_not_sent_come_back() {
    let value = Arc::new(());
    let (sender, receiver) = rendezvous();
    let (_other, none_comes) = rendezvous::<()>();
    let mut select = Select::new();
    let send = select.send(&sender, value.clone());
    select.recv(&none_comes);
    assert_eq!(
        select.wait_timeout(SHORT).unwrap_err(),
        SelectTimeoutError::TimedOut
    );
    assert_eq!(
        select.wait_deadline(std::time::Instant::now()).unwrap_err(),
        SelectTimeoutError::TimedOut
    );
    assert_eq!(sender.waiting(), (0, 0));
    assert!(Arc::ptr_eq(&select.take_unsent(send, &sender).unwrap(), &value));
    // And those nobody asks for are dropped with it.
    select.send(&sender, value.clone());
    drop(select);
    assert_eq!(Arc::strong_count(&value), 1);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn a_closed_channel_is_ready() {
    let (sender, receiver) = bounded(1);
    sender.send(1).unwrap();
    sender.close();
    let mut select = Select::new();
    let send = select.send(&sender, 2);
    let done = select.wait().unwrap();
    assert_eq!(done.index(), send);
    assert_eq!(done.send(&sender), Err(SendError::Closed(2)));
    assert_eq!(select.wait().unwrap_err(), SelectError::NoCases);
    let recv = select.recv(&receiver);
    assert_eq!(select.wait().unwrap().recv(&receiver), Ok(1));
    assert_eq!(select.wait().unwrap().recv(&receiver), Err(RecvError::Closed));
    select.remove(recv);
    assert_eq!(select.wait().unwrap_err(), SelectError::NoCases);
}

#[test]
fn closing_ends_a_wait() {
    let (sender, receiver) = rendezvous::<u32>();
    let (other, from_other) = rendezvous::<String>();
    thread::scope(|s| {
        let waiter = s.spawn(|| {
            let mut select = Select::new();
            select.recv(&receiver);
            let send = select.send(&other, "back".to_owned());
            let done = select.wait().unwrap();
            assert_eq!(done.index(), send);
            done.send(&other)
        });
        until(|| sender.waiting().1 == 1 && other.waiting().0 == 1);
        drop(from_other);
        assert_eq!(waiter.join().unwrap(), Err(SendError::Closed("back".to_owned())));
    });
    assert_eq!(sender.waiting(), (0, 0));
}

#[test]
fn it_does_not_meet_itself() {
    let (sender, receiver) = rendezvous();
    thread::scope(|s| {
        let waiter = s.spawn(|| {
            let mut select = Select::new();
            let recv = select.recv(&receiver);
            select.send(&sender, 1);
            select.recv(&receiver);
            let done = select.wait_timeout(LONG).unwrap();
            assert_ne!(done.index(), recv + 1);
            assert_eq!(done.recv(&receiver), Ok(2));
        });
        until(|| sender.waiting() == (1, 2));
        // Two of the same kind do meet: one sends to the other, and not both.
        let mut select = Select::new();
        select.send(&sender, 2);
        assert_eq!(select.try_wait().unwrap().send(&sender), Ok(()));
        waiter.join().unwrap();
    });
    assert_eq!(sender.waiting(), (0, 0));
    let mut select = Select::new();
    select.recv(&receiver);
    select.send(&sender, 1);
    assert_eq!(
        select.wait_timeout(SHORT).unwrap_err(),
        SelectTimeoutError::TimedOut
    );
}

#[test]
fn nothing_to_select() {
    let mut select = Select::new();
    assert_eq!(select.wait().unwrap_err(), SelectError::NoCases);
    assert_eq!(select.try_wait().unwrap_err(), TrySelectError::WouldBlock);
    assert_eq!(
        select.wait_timeout(SHORT).unwrap_err(),
        SelectTimeoutError::TimedOut
    );
}

#[test]
fn the_wrong_channel_is_refused() {
    let (sender, receiver) = bounded::<u32>(1);
    let (other, from_other) = bounded::<String>(1);
    other.send("a text".to_owned()).unwrap();
    panics(|| {
        let mut select = Select::new();
        select.recv(&from_other);
        let _ = select.wait().unwrap().recv(&receiver);
    });
    panics(|| {
        let mut select = Select::new();
        select.send(&sender, 1);
        let _ = select.wait().unwrap().recv(&receiver);
    });
    panics(|| _ = Select::new().take_unsent(0, &sender));
}

#[test]
fn a_value_that_is_not_fetched_is_dropped() {
    let value = Arc::new(());
    let (sender, receiver) = unbounded();
    sender.send(value.clone()).unwrap();
    let mut select = Select::new();
    select.recv(&receiver);
    let _ = select.wait().unwrap();
    assert_eq!(Arc::strong_count(&value), 2);
    assert_eq!(select.try_wait().unwrap_err(), TrySelectError::WouldBlock);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn none_is_favoured() {
    let ends: Vec<_> = (0..4).map(|_| unbounded()).collect();
    let mut counts = [0; 4];
    const ROUNDS: usize = 4000;
    for _ in 0..ROUNDS {
        // The second is never ready: its share must not go to its neighbour.
        for ready in [0, 2, 3] {
            ends[ready].0.send(()).unwrap();
        }
        let mut select = Select::new();
        for (_, receiver) in &ends {
            select.recv(receiver);
        }
        let done = select.wait().unwrap();
        let index = done.index();
        done.recv(&ends[index].1).unwrap();
        counts[index] += 1;
        for (_, receiver) in &ends {
            receiver.try_iter().for_each(drop);
        }
    }
    // 1333 are expected of each, with a deviation of 30.
    assert_eq!(counts[1], 0);
    assert!(
        [0, 2, 3]
            .iter()
            .all(|&ready| (1150..1520).contains(&counts[ready])),
        "{counts:?}"
    );
}
