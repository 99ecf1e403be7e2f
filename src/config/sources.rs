//! The sources of settings.

use std::path::PathBuf;

use super::file;

/// The sources of settings: one file with its `conf.d`, then the environment, then flags. Kept for reloads.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file from `--config` or `PONTOON_CONFIG`; without it the usual places are searched.
    pub file: Option<PathBuf>,
    /// Variables whose names begin with `PONTOON_`; `None` if the value is not UTF-8.
    pub env: Vec<(String, Option<String>)>,
    /// Where the service manager has files of the daemon kept: the first folder of `$STATE_DIRECTORY` (systemd.exec).
    pub state_directory: Option<PathBuf>,
    /// The flag's name, the dotted key, and the text.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

impl Sources {
    /// File and flags from the command line, and the environment of this process.
    pub fn new(file: Option<PathBuf>, flags: Vec<(&'static str, &'static str, String)>) -> Self {
        let named = || std::env::var_os("PONTOON_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
        let env = std::env::vars_os().filter_map(|(name, text)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("PONTOON_"))?;
            Some((name, text.into_string().ok()))
        });
        let mut env: Vec<_> = env.filter(|(name, _)| name != "PONTOON_CONFIG").collect();
        env.sort();
        let state_directory = std::env::var("STATE_DIRECTORY").ok().and_then(|folders| {
            folders.split(':').next().filter(|folder| !folder.is_empty()).map(PathBuf::from)
        });
        Self { file: file.or_else(named), env, state_directory, flags }
    }

    /// The file that is read, for messages.
    pub fn name(&self) -> String {
        let file = file::find(self.file.as_deref());
        file.map_or_else(|| "no configuration file".to_owned(), |file| file.display().to_string())
    }
}
