//! The values a channel holds: a queue that grows and shrinks in chunks, so that no single push, made under the
//! channel's lock, moves more than a chunk.

use std::collections::VecDeque;

/// How many values a chunk holds.
const CHUNK: usize = if cfg!(loom) { 2 } else { 512 };

/// Law: values leave from `front`, and come to `back`, or to `front` while there is nothing behind it; each
/// chunk in `full` holds [`CHUNK`] of them; `front` is empty only if all is.
pub(super) struct Buffer<T> {
    front: VecDeque<T>,
    full: VecDeque<VecDeque<T>>,
    back: VecDeque<T>,
}

impl<T> Buffer<T> {
    pub(super) const fn new() -> Self {
        Self {
            front: VecDeque::new(),
            full: VecDeque::new(),
            back: VecDeque::new(),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.front.len() + self.full.len() * CHUNK + self.back.len()
    }

    #[inline]
    pub(super) fn push(&mut self, value: T) {
        if self.front.len() < CHUNK && self.full.is_empty() && self.back.is_empty() {
            self.front.push_back(value);
            return;
        }
        self.back.push_back(value);
        if self.back.len() == CHUNK {
            self.full.push_back(std::mem::take(&mut self.back));
        }
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        let value = self.front.pop_front();
        if self.front.is_empty() && value.is_some() {
            self.next_chunk();
        }
        value
    }

    fn next_chunk(&mut self) {
        if let Some(next) = self.full.pop_front() {
            self.front = next;
        } else if !self.back.is_empty() {
            // The empty chunk's memory serves again.
            std::mem::swap(&mut self.front, &mut self.back);
        }
    }
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod test {
    use super::*;

    #[test]
    fn values_come_out_in_the_order_they_went_in() {
        let mut buffer = Buffer::new();
        let (mut pushed, mut popped) = (0usize, 0usize);
        // Waves that end inside, at, and past the edges of chunks.
        for wave in [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 5 * CHUNK + 7] {
            for _ in 0..wave {
                buffer.push(pushed);
                pushed += 1;
                assert_eq!(buffer.len(), pushed - popped);
            }
            for _ in 0..wave / 2 + 1 {
                assert_eq!(buffer.pop(), (popped < pushed).then_some(popped));
                popped = (popped + 1).min(pushed);
                assert_eq!(buffer.len(), pushed - popped);
            }
        }
        while let Some(value) = buffer.pop() {
            assert_eq!(value, popped);
            popped += 1;
        }
        assert_eq!((popped, buffer.len()), (pushed, 0));
    }

    #[test]
    fn what_has_been_drained_is_given_back() {
        let mut buffer = Buffer::new();
        for value in 0..100 * CHUNK {
            buffer.push(value);
        }
        while buffer.pop().is_some() {}
        assert!(buffer.full.is_empty());
        assert!(buffer.front.capacity() + buffer.back.capacity() <= 4 * CHUNK);
    }
}
