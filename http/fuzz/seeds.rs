//! Writes the corpus of the tests into a folder, for the fuzzer to begin with.

#[expect(dead_code, reason = "the tests use all of it")]
#[path = "../tests/strict/draft.rs"]
mod draft;
#[path = "../tests/strict/invalid.rs"]
mod invalid;
#[path = "../tests/strict/valid.rs"]
mod valid;

use draft::Case;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).expect("usage: seeds FOLDER");
    let folder = std::path::PathBuf::from(folder);
    std::fs::create_dir_all(&folder)?;
    let cases: Vec<_> = valid::cases().into_iter().chain(invalid::cases()).collect();
    for (index, case) in cases.iter().enumerate() {
        std::fs::write(folder.join(format!("{index:04}")), &case.raw)?;
        // And one behind another.
        let next = &cases[(index * 7 + 1) % cases.len()];
        std::fs::write(
            folder.join(format!("{index:04}-two")),
            [&case.raw[..], &next.raw].concat(),
        )?;
    }
    Ok(())
}

fn distinct(cases: impl IntoIterator<Item = Case>) -> Vec<Case> {
    cases.into_iter().collect()
}
