//! The turns of a worker that schedules by chance: see `scheduler/lottery.rs`.

use super::{Next, Worker};
use crate::fiber::FiberRef;
use crate::fiber::options::Class;
use crate::loom::sync::atomic::Ordering;
use crate::scheduler::hooks::Hooks;
use crate::scheduler::steal;
use crate::scheduler::work::Work;

/// All that could have the next turn.
#[derive(Default)]
pub(super) struct Lots {
    ready: Vec<FiberRef>,
    unstarted: Vec<Work>,
}

impl<H: Hooks> Worker<H> {
    /// Draws the next turn.
    #[cold]
    pub(super) fn draw(&mut self) -> Option<Next> {
        // In every turn, and not when some time has passed: what is seen in which turn must not depend on how fast it goes.
        self.look();
        // Comes back here in the next turn.
        self.remote().look_now.store(true, Ordering::Relaxed);
        self.collect();
        let lots = &mut self.lots;
        let all = lots.ready.len() + lots.unstarted.len();
        if all == 0 {
            return None;
        }
        let chance = self.home.hub.chance.as_ref()?;
        let drawn = chance.below(all);
        Some(match drawn.checked_sub(lots.ready.len()) {
            None => Next::Resume(lots.ready.swap_remove(drawn)),
            Some(drawn) => Next::Start(lots.unstarted.swap_remove(drawn)),
        })
    }

    /// Empties all queues into the lots.
    fn collect(&mut self) {
        self.drain_inbox();
        let home = self.home.clone();
        let remote = &home.hub.remotes[home.index];
        let mut lots = std::mem::take(&mut self.lots);
        self.with_owner(|owner| {
            lots.ready.extend(owner.next.take());
            for queue in &mut owner.ready {
                lots.ready.extend(std::iter::from_fn(|| queue.pop()));
            }
            for queue in &owner.local {
                lots.unstarted.extend(std::iter::from_fn(|| queue.pop()));
            }
        });
        lots.unstarted.extend(remote.fresh.take());
        for class in Class::ALL {
            let injected = || steal(|| home.hub.injector[class.index()].steal());
            lots.unstarted.extend(std::iter::from_fn(injected));
            let mail = || {
                let work = steal(|| remote.mailbox[class.index()].steal())?;
                remote.mailed.fetch_sub(1, Ordering::Relaxed);
                Some(work)
            };
            lots.unstarted.extend(std::iter::from_fn(mail));
        }
        self.lots = lots;
    }

    /// Puts what was not drawn back, for a worker that leaves.
    pub(super) fn return_lots(&mut self) {
        let lots = std::mem::take(&mut self.lots);
        self.with_owner(|owner| {
            for fiber in lots.ready {
                owner.ready[Class::Normal.index()].push(fiber);
            }
            for work in lots.unstarted {
                owner.local[Class::Normal.index()].push(work);
            }
        });
    }
}
