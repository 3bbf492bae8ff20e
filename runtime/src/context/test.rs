use super::{Context, StackMemory, Suspender, Switched, prefetch};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

struct HeapStack(Box<[u128]>);

impl HeapStack {
    fn new() -> Self {
        Self(vec![0; 4096].into_boxed_slice())
    }
}

// SAFETY: the box owns the memory and never moves it. It has no guard page: these bodies use little.
unsafe impl StackMemory for HeapStack {
    fn base(&self) -> usize {
        self.limit() + std::mem::size_of_val(&*self.0)
    }

    fn limit(&self) -> usize {
        self.0.as_ptr().addr()
    }
}

#[test]
fn messages_come_out_in_order_and_the_stack_comes_back() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let inside = seen.clone();
    let stack = HeapStack::new();
    let limit = stack.limit();
    let mut context = Context::new(stack, move |suspender: Suspender<u32>| {
        for message in 1..=3 {
            inside.borrow_mut().push(message * 10);
            // SAFETY: called by the body, on its own stack.
            unsafe { suspender.suspend(message) };
        }
    });
    for message in 1..=3 {
        assert_eq!(context.resume(), Switched::Suspended(message));
        assert_eq!(seen.borrow().last(), Some(&(message * 10)));
    }
    assert_eq!(context.resume(), Switched::Finished);
    assert_eq!(context.into_stack().limit(), limit);
    assert_eq!(
        Rc::strong_count(&seen),
        1,
        "the body's captures were dropped when it returned"
    );
}

#[test]
fn contexts_interleave() {
    let count = Rc::new(Cell::new(0));
    let mut contexts: Vec<_> = (0..10)
        .map(|_| {
            let count = count.clone();
            Context::new(HeapStack::new(), move |suspender: Suspender<()>| {
                for _ in 0..100 {
                    count.set(count.get() + 1);
                    // SAFETY: called by the body, on its own stack.
                    unsafe { suspender.suspend(()) };
                }
            })
        })
        .collect();
    for _ in 0..100 {
        for context in &mut contexts {
            assert_eq!(context.resume(), Switched::Suspended(()));
        }
    }
    assert_eq!(count.get(), 1000);
    for mut context in contexts {
        assert_eq!(context.resume(), Switched::Finished);
    }
}

#[test]
fn a_leaked_context_drops_nothing_on_its_stack() {
    let held = Rc::new(());
    let inside = held.clone();
    let mut context = Context::new(HeapStack::new(), move |suspender: Suspender<()>| {
        let _inside = inside;
        // SAFETY: called by the body, on its own stack.
        unsafe { suspender.suspend(()) };
    });
    assert_eq!(context.resume(), Switched::Suspended(()));
    context.leak();
    assert_eq!(Rc::strong_count(&held), 2);
}

#[test]
fn a_panic_may_be_caught_inside_and_travel_out_as_a_value() {
    let mut context = Context::new(HeapStack::new(), |suspender: Suspender<bool>| {
        let caught = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(7))).is_err();
        // SAFETY: called by the body, on its own stack.
        unsafe { suspender.suspend(caught) };
    });
    assert_eq!(context.resume(), Switched::Suspended(true));
    assert_eq!(context.resume(), Switched::Finished);
}

#[test]
fn any_address_may_be_prefetched() {
    let local = [0_u8; 256];
    prefetch(local.as_ptr(), local.len());
    prefetch(std::ptr::null(), 64);
    prefetch(std::ptr::without_provenance(usize::MAX), 256);
    prefetch(std::ptr::without_provenance(1 << 63), 0);
}
