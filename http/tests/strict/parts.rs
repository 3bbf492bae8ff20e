//! What the checker makes of bytes that come in parts.

use roving_http::strict::{Checker, Head, Limits, Refused, Step};

/// Everything that can be told of a connection's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// What was passed on.
    pub(crate) passed: Vec<u8>,
    pub(crate) heads: Vec<Head>,
    /// How many bodies ended.
    pub(crate) ends: usize,
    pub http2: bool,
    pub(crate) ended: bool,
    /// While bytes came.
    pub(crate) refused: Option<Refused>,
    /// When no more came.
    pub(crate) at_eof: Option<Refused>,
}

/// Feeds the parts one after the other, then the end.
pub(crate) fn outcome_of<'b>(mut checker: Checker, parts: impl IntoIterator<Item = &'b [u8]>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut held = Vec::new();
    for part in parts {
        held.extend_from_slice(part);
        while !held.is_empty() && outcome.refused.is_none() {
            let pass = match checker.next(&held) {
                Ok(Step::More) => break,
                Ok(Step::Head(head)) => {
                    outcome.heads.push(head);
                    head.length
                }
                Ok(Step::Body { length, end }) => {
                    assert!(length > 0, "a step that takes nothing");
                    outcome.ends += usize::from(end);
                    length
                }
                Ok(Step::Http2) => {
                    outcome.http2 = true;
                    held.len()
                }
                Ok(Step::Ended) => {
                    outcome.ended = true;
                    held.clear();
                    break;
                }
                Err(refused) => {
                    outcome.refused = Some(refused);
                    break;
                }
            };
            outcome.passed.extend(held.drain(..pass));
        }
    }
    if let Some(refused) = outcome.refused {
        assert_eq!(
            checker.next(b"GET / HTTP/1.1\r\n"),
            Err(refused),
            "a refusal stays"
        );
        assert_eq!(checker.end(b""), Err(refused));
    }
    outcome.at_eof = checker.end(&held).err();
    outcome
}

/// In one part, by the default limits.
pub(crate) fn whole(bytes: &[u8]) -> Outcome {
    outcome_of(Checker::new(&Limits::default()), [bytes])
}

/// Asserts that no way to cut the bytes makes a difference, and says what becomes of them.
pub(crate) fn in_any_parts(name: &str, checker: &Checker, bytes: &[u8]) -> Outcome {
    let expected = outcome_of(checker.clone(), [bytes]);
    let check = |how: &str, parts: Vec<&[u8]>| {
        let outcome = outcome_of(checker.clone(), parts);
        assert_eq!(outcome, expected, "{name}: {how}: {}", crate::shown(bytes));
    };
    for at in 1..bytes.len() {
        check(&format!("cut at {at}"), vec![&bytes[..at], &bytes[at..]]);
    }
    check("byte by byte", bytes.chunks(1).collect());
    let mut random = Random::new(bytes.len() as u64);
    for round in 0..8 {
        check(&format!("in parts, round {round}"), random.parts(bytes));
    }
    expected
}

/// A small generator of numbers (Marsaglia's xorshift64*), the same ones for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    /// Cuts bytes into parts of 1 to 40 bytes.
    pub(crate) fn parts<'b>(&mut self, mut bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let mut parts = Vec::new();
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(1 + self.below(40)));
            parts.push(part);
            bytes = rest;
        }
        parts
    }
}
