//! The strict checker: a corpus made by a table of clauses and mutations, split everywhere, and read by hyper.

mod checker;
mod corpus;
mod differential;
mod draft;
mod found;
mod invalid;
mod limits;
mod parts;
mod serving;
mod sockets;
mod stream;
mod through_hyper;
mod valid;
mod wire;

use draft::Case;
use std::collections::HashSet;

/// The cases without those whose bytes were there before.
fn distinct(cases: impl IntoIterator<Item = Case>) -> Vec<Case> {
    let mut known = HashSet::new();
    cases
        .into_iter()
        .filter(|case| known.insert(case.raw.clone()))
        .collect()
}

/// Bytes as a failed test shows them.
fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
