//! Any bytes as what a client sends: see `differential`, which the crate's tests run as well.

#![no_main]

#[path = "../../tests/strict/differential.rs"]
mod differential;
#[expect(dead_code, reason = "the tests make requests with it")]
#[path = "../../tests/strict/draft.rs"]
mod draft;
#[expect(dead_code, reason = "the tests use all of it")]
#[path = "../../tests/strict/parts.rs"]
mod parts;
#[path = "../../tests/strict/serving.rs"]
mod serving;
#[expect(dead_code, reason = "the tests use all of it")]
#[path = "../../tests/strict/wire.rs"]
mod wire;

libfuzzer_sys::fuzz_target!(|data: &[u8]| differential::check(data));

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
