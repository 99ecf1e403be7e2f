//! Another time of day for the daemon alone: libfaketime in front of the system's library, which reads an offset from a file
//! at each call. The clock that deadlines are measured with stays as it is.

use std::path::{Path, PathBuf};
use std::{env, fs};

use pontoon_testkit::{DaemonConfig, Dir};

const LIBRARY: &str = "libfaketime.so.1";

/// Sets the time of day of a daemon.
pub(crate) struct FakeTime {
    library: PathBuf,
    dir: Dir,
}

impl FakeTime {
    /// The library: `PONTOON_FAKETIME`, else the one that `make tools` fetched.
    pub(crate) fn library() -> Option<PathBuf> {
        let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(LIBRARY);
        let given = env::var_os("PONTOON_FAKETIME").map(PathBuf::from);
        given.or(Some(fetched)).filter(|library| library.is_file())
    }

    /// Not set yet.
    pub(crate) fn new(library: PathBuf) -> Self {
        let fake = Self { library, dir: Dir::new("faketime") };
        fake.set(0);
        fake
    }

    /// The daemon with this clock.
    pub(crate) fn config(&self, config: DaemonConfig) -> DaemonConfig {
        config
            .environment("LD_PRELOAD", &self.library.display().to_string())
            .environment("FAKETIME_TIMESTAMP_FILE", &self.file().display().to_string())
            .environment("FAKETIME_NO_CACHE", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }

    /// Removes what the library would have removed at the end of a daemon that was killed.
    pub(crate) fn clean_up(id: u32) {
        for name in ["sem.faketime_sem", "faketime_shm"] {
            let _ = fs::remove_file(format!("/dev/shm/{name}_{id}"));
        }
    }

    /// Sets the clock so many seconds ahead of the machine's.
    pub(crate) fn set(&self, seconds: i64) {
        let new = self.dir.write("new", &format!("{seconds:+}\n"));
        fs::rename(new, self.file()).expect("a file can be replaced");
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("offset")
    }
}
