//! The TOML file and those in `conf.d` beside it: finding them, reading them, and the line of a key.

use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use figment::Provider as _;
use figment::providers::{Format as _, Toml};
use figment::value::Dict;
use toml_edit::{ImDocument, Item};

use super::problem::Problem;

/// Where the file is searched without `--config` and `PONTOON_CONFIG`.
const SEARCHED: [&str; 3] = ["pontoon.toml", "config/pontoon.toml", "/etc/pontoon/pontoon.toml"];
/// The folder beside the file whose `*.toml` are read after it.
const DROP_INS: &str = "conf.d";
/// How many files are read from there at most.
const MOST_DROP_INS: usize = 4096;
/// The largest file that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// One file that was read.
pub(super) struct File {
    /// Its path.
    pub(super) name: String,
    document: ImDocument<String>,
    /// Its values.
    pub(super) tree: Dict,
}

/// The file to read: `named`, or the first of the usual places that exists.
pub(super) fn find(named: Option<&Path>) -> Option<PathBuf> {
    match named {
        Some(file) => Some(file.to_owned()),
        None => SEARCHED.iter().map(PathBuf::from).find(|file| file.exists()),
    }
}

/// The places that are searched, for messages.
pub(super) fn searched() -> String {
    SEARCHED.join(", ")
}

impl File {
    /// Reads a file and then `conf.d/*.toml` beside it, in the order of their names; hidden ones are left out. Of two
    /// values for one key the later counts.
    ///
    /// # Errors
    /// If one cannot be read or is not TOML.
    pub(super) fn read_all(path: &Path) -> Result<Vec<Self>, Problem> {
        let mut files = vec![Self::read(path)?];
        let folder = path.with_file_name(DROP_INS);
        for path in drop_ins(&folder).map_err(|what| problem(&folder.display().to_string(), what))? {
            files.push(Self::read(&path)?);
        }
        Ok(files)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read or is not TOML. The message has the line's number only: the line may hold a secret.
    pub(super) fn read(path: &Path) -> Result<Self, Problem> {
        let name = path.display().to_string();
        let wrong = |what: String| problem(&name, what);
        let text = text(path)
            .map_err(|what| wrong(format!("{what}; name the file with --config or PONTOON_CONFIG")))?;
        let document = ImDocument::parse(text.clone()).map_err(|error| {
            let place =
                error.span().map_or(name.clone(), |span| format!("{name}:{}", line(&text, span.start)));
            let what = format!("is not TOML: {}", error.message().lines().collect::<Vec<_>>().join("; "));
            problem(&place, what)
        })?;
        let tree = Toml::string(document.raw())
            .data()
            .ok()
            .and_then(|mut data| data.remove(&figment::Profile::Default));
        let tree = tree.ok_or_else(|| wrong("is not TOML that can be read".to_owned()))?;
        Ok(Self { name, document, tree })
    }

    /// The folder that it is in.
    pub(super) fn folder(&self) -> Option<&Path> {
        Path::new(&self.name).parent()
    }

    /// The file and the line of a key, or of the nearest table around it.
    pub(super) fn place(&self, path: &[String]) -> String {
        match self.offset(path) {
            Some(offset) => format!("{}:{}", self.name, line(self.document.raw(), offset)),
            None => self.name.clone(),
        }
    }

    fn offset(&self, path: &[String]) -> Option<usize> {
        let mut item: &Item = self.document.as_item();
        let mut found = None;
        for key in path {
            let (start, next) = match key.parse::<usize>() {
                Ok(index) if item.is_array() || item.is_array_of_tables() => {
                    let value = item.as_array().and_then(|array| array.get(index));
                    (value.and_then(|value| value.span()), None)
                }
                _ => {
                    let table = item.as_table_like();
                    let pair = table.and_then(|table| table.get_key_value(key));
                    (pair.and_then(|(key, _)| key.span()), pair.map(|(_, item)| item))
                }
            };
            found = start.map(|span| span.start).or(found);
            match next {
                Some(next) => item = next,
                None => break,
            }
        }
        found
    }
}

/// The files of a `conf.d`, sorted; none if there is no such folder.
fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: io::Error| format!("cannot be read: {error}");
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && entry.path().extension().is_some_and(|extension| extension == "toml") {
            files.push(entry.path());
        }
        if files.len() > MOST_DROP_INS {
            return Err(format!("holds more than {MOST_DROP_INS} files"));
        }
    }
    files.sort();
    Ok(files)
}

fn problem(source: &str, what: String) -> Problem {
    Problem { source: source.to_owned(), key: String::new(), what }
}

fn text(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > LARGEST {
        return Err("is larger than 4 MiB and cannot be a configuration".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
