//! Placement: which worker starts a fiber, and so owns it for life.
//!
//! Starting and parking a fiber takes under a microsecond, waking a thief twenty: left alone, one
//! worker starts, and then owns, nearly every fiber of a burst. So a worker that owns more than its
//! share (an average sixteenth above the average) hands unstarted work to the least loaded instead. Fibers
//! that run to their end in one go never raise the load, and neither do fibers that only wait for other
//! fibers to end, so spawn-and-join loops and fork-join recursion start where they are.

use super::hub::Hub;
use crate::loom::sync::atomic::Ordering;
use std::ops::Range;

#[derive(Default)]
pub(super) struct Placement {
    /// The load up to which this worker starts fibers without looking at the others.
    limit: usize,
}

impl Placement {
    /// The worker, of those that may, that should start the next fiber in place of `me`, if any.
    #[inline]
    pub(super) fn elsewhere(&mut self, hub: &Hub, me: usize, among: Range<usize>) -> Option<usize> {
        let live = hub.remotes[me].live.load(Ordering::Relaxed);
        if live <= self.limit {
            return None;
        }
        self.look_around(hub, me, among, live)
    }

    #[cold]
    fn look_around(&mut self, hub: &Hub, me: usize, among: Range<usize>, live: usize) -> Option<usize> {
        let mut total = 0;
        let mut lowest: Option<(usize, usize)> = None;
        let mut count = 0;
        for (index, remote) in std::iter::zip(among.clone(), &hub.remotes[among]) {
            if !remote.is_active() {
                continue;
            }
            count += 1;
            let load = remote.load();
            total += load;
            // A worker that has been in one turn for long would let the fiber wait.
            if index != me
                && !remote.stuck.load(Ordering::Relaxed)
                && lowest.is_none_or(|(least, _)| load < least)
            {
                lowest = Some((load, index));
            }
        }
        self.limit = total * 17 / (16 * count.max(1));
        match lowest {
            Some((least, index)) if live > self.limit && least < live => Some(index),
            _ => None,
        }
    }

    /// The loads have changed since: look again at the next start.
    pub(super) fn forget(&mut self) {
        self.limit = 0;
    }
}
