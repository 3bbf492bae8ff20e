//! Plain threads that take part: they use what the fibers use, spawn fibers, wait for them and stop them.

use crate::common::Rng;
use crate::storm::Storm;
use roving_runtime::Fiber;
use std::sync::Arc;
use std::time::Instant;

/// Does by turns what fibers do, as long as the storm lasts.
pub(crate) fn visit(storm: &Arc<Storm>, mut rng: Rng) {
    while Instant::now() < storm.until {
        match rng.below(12) {
            0..=2 => storm.channels.use_one(&mut rng),
            3..=5 => storm.locks.use_one(&mut rng),
            6 | 7 => storm.talk(&mut rng),
            8 => {
                let roots: Vec<_> = (0..rng.below(4)).map(|_| storm.root(rng.next())).collect();
                for root in roots {
                    storm.ledger.settle(root.join());
                }
            }
            9 => {
                let root = storm.root(rng.next());
                storm.make_known(root.fiber(), &mut rng);
                if rng.below(2) == 0 {
                    // Often before it starts.
                    root.cancel();
                }
                storm.ledger.settle(root.join());
            }
            10 => storm.pick(&mut rng).iter().for_each(Fiber::unpark),
            _ if rng.below(32) == 0 => storm.pick(&mut rng).iter().for_each(Fiber::cancel),
            _ => std::thread::yield_now(),
        }
    }
}

/// Ends waits that nobody else would end, until all that wait have ended.
pub(crate) fn keep_going(storm: &Storm, mut rng: Rng) {
    while !storm.is_over() {
        storm.channels.pump(&mut rng);
        storm.locks.pump();
    }
}
