//! The folder of an instance: made for the daemon's user alone, and used by one daemon at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The file that is locked. It holds the format of the folder, and the process that uses it.
const LOCK: &str = "lock";
/// The format of the files in a folder, the first line of its lock.
const FORMAT: &str = "pontoon 1";

/// The folder of an instance, until it is dropped.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Dropped, or at the end of the process, it is unlocked.
    _lock: File,
}

impl Directory {
    /// Makes the folder of this name where it is missing, and locks it. Waits for the disk.
    ///
    /// # Errors
    /// A sentence that says what to do: it may not be written, is in use, or is not a folder of ours.
    pub fn open(root: &Path, name: &str) -> Result<Self, String> {
        let path = root.join(name);
        let show = path.display();
        let failed = |what: &str, error: &io::Error| {
            let advice = match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    "; give it to the daemon's user, or set delivery.spool.path to a folder that it may write"
                }
                ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                    "; set delivery.spool.path to a folder"
                }
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; make room on the disk",
                _ => "",
            };
            format!("the folder {show} cannot be {what}: {error}{advice}")
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| failed("made", &error))?;
        let is_new = fs::read_dir(&path).map_err(|error| failed("read", &error))?.next().is_none();
        if !is_new && !path.join(LOCK).exists() {
            return Err(format!(
                "the folder {show} holds files of something else; set delivery.spool.path to an empty folder"
            ));
        }
        let mut lock =
            options().truncate(false).open(path.join(LOCK)).map_err(|error| failed("used", &error))?;
        let mut text = String::new();
        // What is not a text has another format.
        let _ = lock.read_to_string(&mut text);
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let process = text.lines().nth(1).unwrap_or("unknown");
                return Err(format!(
                    "the folder {show} is used by another daemon (process {process}); stop it, or set another delivery.spool.path"
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failed("locked", &error)),
        }
        match text.lines().next() {
            None | Some(FORMAT) => {}
            Some(other) => {
                return Err(format!(
                    "the folder {show} has the format {other:?}, and this version reads {FORMAT:?}; run the version that wrote it until nothing is left there, or move the folder away"
                ));
            }
        }
        let mut write = || -> io::Result<()> {
            lock.rewind()?;
            let text = format!("{FORMAT}\n{}\n", std::process::id());
            lock.write_all(text.as_bytes())?;
            lock.set_len(u64::try_from(text.len()).unwrap_or_default())
        };
        write().map_err(|error| failed("written", &error))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A file that is read and written, is made where it is missing, and that only the daemon's user may read.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

/// Whether a file that is open can be found by its name after the end of the process.
///
/// # Errors
/// `NotFound` if it was removed meanwhile, with its folder or alone.
pub(super) fn linked(file: &File) -> io::Result<()> {
    if file.metadata()?.nlink() > 0 {
        return Ok(());
    }
    Err(io::Error::new(ErrorKind::NotFound, "the file was removed; restart the daemon"))
}

/// Has the names in a folder outlive the host.
///
/// # Errors
/// If it cannot be synced.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use pontoon_testkit::Dir;

    use super::*;

    #[test]
    fn a_folder_is_used_by_one_at_a_time_and_read_by_its_user_alone() {
        let root = Dir::new("disk");
        let open = || Directory::open(root.path(), "sub0.shop");
        let first = open().unwrap();
        let refused = open().unwrap_err();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(first.path()), mode(&first.path().join(LOCK))), (0o700, 0o600));
        drop(first);
        open().unwrap();
    }

    #[test]
    fn what_is_not_a_folder_of_ours_is_refused() {
        let root = Dir::new("disk");
        let refused = |name: &str| Directory::open(root.path(), name).unwrap_err();
        fs::write(root.path().join("file"), "x").unwrap();
        assert!(refused("file").contains("set delivery.spool.path to a folder"));
        for (name, file, text, advice) in [
            ("foreign", "notes.txt", "x", "holds files of something else"),
            ("later", LOCK, "pontoon 2\n1\n", "\"pontoon 2\""),
            ("other", LOCK, "\0", "has the format"),
        ] {
            fs::create_dir(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join(file), text).unwrap();
            assert!(refused(name).contains(advice), "{}", refused(name));
        }
    }
}
