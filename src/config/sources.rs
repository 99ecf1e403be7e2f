//! Where settings are read.

use std::path::PathBuf;

/// Where settings are read: one file, then the environment, then flags. Kept, so that a reload can read them again.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file that somebody named; without it the usual places are looked at.
    pub file: Option<PathBuf>,
    /// Variables whose names begin with `PONTOON_`; no text if it is not UTF-8.
    pub env: Vec<(String, Option<String>)>,
    /// The flag's name, the key, dotted, and the text.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

impl Sources {
    /// What this process was given: a file and flags from the command line, and its environment.
    pub fn new(file: Option<PathBuf>, flags: Vec<(&'static str, &'static str, String)>) -> Self {
        let named = || std::env::var_os("PONTOON_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
        let env = std::env::vars_os().filter_map(|(name, text)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("PONTOON_"))?;
            Some((name, text.into_string().ok()))
        });
        let mut env: Vec<_> = env.filter(|(name, _)| name != "PONTOON_CONFIG").collect();
        env.sort();
        Self { file: file.or_else(named), env, flags }
    }
}
