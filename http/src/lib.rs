//! HTTP for roving: hyper's connections as stackless futures on roving's workers, a strict checker of raw heads and
//! chunks in front of them, and one fiber per request. Knows no Python.

pub mod strict;
