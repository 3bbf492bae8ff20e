use std::collections::BTreeMap;
use std::time::Instant;
pub(crate) struct TimerQueue<T> {
    map: BTreeMap<(Instant, u64), T>,
    at: std::collections::HashMap<u64, Instant>,
    next: u64,
}
#[derive(Clone, Copy)]
pub(crate) struct TimerKey(u64);
impl TimerKey {
    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }
    pub(crate) fn from_bits(b: u64) -> Self {
        Self(b)
    }
}
impl<T> TimerQueue<T> {
    pub(crate) fn new() -> Self {
        Self {
            map: BTreeMap::new(),
            at: Default::default(),
            next: 0,
        }
    }
    pub(crate) fn insert(&mut self, d: Instant, v: T) -> TimerKey {
        self.next += 1;
        self.map.insert((d, self.next), v);
        self.at.insert(self.next, d);
        TimerKey(self.next)
    }
    pub(crate) fn cancel(&mut self, k: TimerKey) -> Option<T> {
        let d = self.at.remove(&k.0)?;
        self.map.remove(&(d, k.0))
    }
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<(Instant, T)> {
        let (&(d, id), _) = self.map.first_key_value()?;
        if d > now {
            return None;
        }
        self.at.remove(&id);
        self.map.remove(&(d, id)).map(|v| (d, v))
    }
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.map.first_key_value().map(|(k, _)| k.0)
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}
