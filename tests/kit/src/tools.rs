//! Where the programs are that the tests run.

use std::env;
use std::path::{Path, PathBuf};

/// The program of this name: the one that the variable names, else what `make tools` fetched, else one in `PATH`.
pub(crate) fn find(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(given) = env::var_os(variable) {
        return Some(given.into());
    }
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools").join(name);
    let installed = env::var_os("PATH").into_iter().flat_map(|path| {
        let places: Vec<_> = env::split_paths(&path).map(|dir| dir.join(name)).collect();
        places
    });
    [fetched].into_iter().chain(installed).find(|path| path.is_file())
}
