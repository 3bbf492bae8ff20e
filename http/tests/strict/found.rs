//! What fuzzing found, and all of the corpus, by the rules of the fuzz target.

use crate::differential::check;
use crate::parts::Random;
use crate::{invalid, valid};

/// Inputs that were trouble once, each with what it was.
const FOUND: &[(&str, &[u8])] = &[];

#[test]
fn what_was_found_stays_mended() {
    for (what, bytes) in FOUND {
        println!("{what}");
        check(bytes);
    }
}

#[test]
fn the_corpus_holds_the_rules() {
    for case in valid::cases().into_iter().chain(invalid::cases()) {
        check(&case.raw);
    }
}

/// Requests of the corpus with a few bytes exchanged, left out or doubled.
#[test]
fn damaged_requests_hold_the_rules() {
    let cases: Vec<_> = valid::cases().into_iter().chain(invalid::cases()).collect();
    let mut random = Random::new(3);
    for _ in 0..3_000 {
        let mut bytes = cases[random.below(cases.len())].raw.clone();
        bytes.extend_from_slice(&cases[random.below(cases.len())].raw);
        for _ in 0..1 + random.below(3) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.below(256) as u8,
                1 => bytes[at] = b"\r\n \t:;,0\0"[random.below(9)],
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        check(&bytes);
    }
}
