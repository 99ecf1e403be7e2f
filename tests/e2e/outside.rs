//! The crate in `tests/outside/`, which is not in this workspace: that it builds from what ours builds from. `make outside`
//! runs its own tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn its_lock_holds_nothing_that_ours_does_not() {
    let ours = packages("Cargo.lock");
    let more: Vec<_> = packages("tests/outside/Cargo.lock").difference(&ours).cloned().collect();
    assert!(more.is_empty(), "these are not in ours, run `make outside-lock`: {more:#?}");
}

/// What a lock has from elsewhere: name, version, source and checksum of each.
fn packages(lock: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(ROOT).join(lock)).expect("the lock is there");
    let packages = text.split("[[package]]\n").filter_map(|package| {
        let (described, _) = package.split_once("\ndependencies = ").unwrap_or((package, ""));
        described.contains("\nsource = ").then(|| described.trim().to_owned())
    });
    packages.collect()
}
