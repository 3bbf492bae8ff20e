//! The queue itself, with futures' wakers in the waiters' place: what they do shows what the queue did.

use crate::fiber::parker::Unparker;
use crate::sync::waiter::{Ended, Waiter};
use crate::sync::waiters::{Node, Place, WaitQueue, Waiters};
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

type Queue = Waiters<WaitQueue<u32>>;

/// A waiter that stands in a queue until it is dropped.
struct Standing<'q> {
    queue: &'q Queue,
    waiter: Pin<Box<Waiter>>,
    node: Pin<Box<Node<u32>>>,
}

impl<'q> Standing<'q> {
    fn new(queue: &'q Queue, data: u32, waker: Waker) -> Self {
        let waiter = Box::pin(Waiter::new(Unparker::Future(waker)));
        let node = Box::pin(WaitQueue::node(NonNull::from(&*waiter), data));
        let standing = Self { queue, waiter, node };
        // SAFETY: both are boxed, and `drop` takes the node out before they go.
        unsafe { queue.lock().push(NonNull::from(&*standing.node), Place::Back) };
        standing
    }

    fn ended(&self) -> Option<Ended> {
        self.waiter.ended()
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        // SAFETY: the node is alive, and was pushed to this queue only.
        unsafe { self.queue.lock().remove(NonNull::from(&*self.node)) };
    }
}

/// Calls a closure when woken.
struct Calls<F>(F);

impl<F: Fn() + Send + Sync> Wake for Calls<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

fn calls(f: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(Calls(f)))
}

#[test]
fn first_in_first_out_and_what_gave_up_is_passed_over() {
    let queue = Queue::new(WaitQueue::new());
    let standing: Vec<_> = (0..4)
        .map(|data| Standing::new(&queue, data, Waker::noop().clone()))
        .collect();
    assert!(standing[1].waiter.give_up().is_none());
    for expected in [0, 2, 3] {
        let mut guard = queue.lock();
        let mut data = None;
        let choice = guard.choose(|next| {
            data = Some(*next);
            Some(7)
        });
        choice.unwrap().wake().finish();
        assert_eq!(data, Some(expected));
    }
    assert!(queue.lock().choose(|_| Some(7)).is_none());
    assert_eq!(standing[3].ended(), Some(Ended::Woken(7)));
    assert_eq!(standing[1].ended(), None);
    assert_eq!(standing[0].waiter.give_up(), Some(Ended::Woken(7)));
}

#[test]
fn who_is_not_served_keeps_those_behind_waiting() {
    let queue = Queue::new(WaitQueue::new());
    let _standing: Vec<_> = (0..2)
        .map(|data| Standing::new(&queue, data, Waker::noop().clone()))
        .collect();
    assert!(queue.lock().choose(|data| (*data == 1).then_some(0)).is_none());
    assert!(queue.lock().choose(|data| (*data == 0).then_some(0)).is_some());
}

/// Wakes run without the lock: whoever they bring in the meantime waits for the next round.
#[test]
fn waking_all_ends_with_the_last_that_waited_when_it_began() {
    static QUEUE: Queue = Queue::new(WaitQueue::new());
    let late = Arc::new(Mutex::new(Vec::new()));
    let woken = Arc::new(AtomicUsize::new(0));
    let standing: Vec<_> = (0..50)
        .map(|_| {
            let (late, woken) = (late.clone(), woken.clone());
            let waker = calls(move || {
                woken.fetch_add(1, SeqCst);
                let waker = Waker::noop().clone();
                late.lock()
                    .unwrap()
                    .push(SendStanding(Standing::new(&QUEUE, 0, waker)));
            });
            Standing::new(&QUEUE, 0, waker)
        })
        .collect();
    QUEUE.wake_all(QUEUE.lock(), |queue| queue, |_| 3);
    assert_eq!(woken.load(SeqCst), 50);
    assert!(
        standing
            .iter()
            .all(|standing| standing.ended() == Some(Ended::Woken(3)))
    );
    let late = std::mem::take(&mut *late.lock().unwrap());
    assert_eq!(late.len(), 50);
    assert!(late.iter().all(|standing| standing.0.ended().is_none()));
}

struct SendStanding(Standing<'static>);

// SAFETY: a test moves it into a `Mutex`, and uses it on its own thread.
unsafe impl Send for SendStanding {}
