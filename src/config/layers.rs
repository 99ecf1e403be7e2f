//! Merges file, environment and flags, and keeps the source of each value.

use std::path::Path;

use figment::value::{Dict, Map, Value as Figmented};
use figment::{Figment, Metadata, Profile, Provider};
use serde_json::{Map as Object, Value};

use super::file::File;
use super::problem::{Notes, Problem};
use super::schema::Schema;
use super::sources::Sources;
use super::{env, file};

/// All values that were set, with their sources.
pub(super) struct Layers {
    figment: Figment,
    /// Each is also a layer of this name; its lines are looked up in the file itself.
    files: Vec<File>,
    /// The merged values; a later source overrides an earlier one.
    pub(super) tree: Object<String, Value>,
}

/// One source and its name.
struct Layer {
    name: String,
    tree: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.tree.clone()))
    }
}

impl Layers {
    /// Reads all sources.
    ///
    /// # Errors
    /// If a file cannot be read; no other error is reported then.
    pub(super) fn read(sources: &Sources, schema: &Schema) -> Result<(Self, Notes), Problem> {
        let mut notes = Notes::default();
        let files = match file::find(sources.file.as_deref()) {
            Some(path) => File::read_all(&path)?,
            None => {
                notes
                    .warnings
                    .push(format!("there is no configuration file: looked for {}", file::searched()));
                Vec::new()
            }
        };
        let mut figment = Figment::new();
        for file in &files {
            figment = figment.merge(Layer { name: file.name.clone(), tree: file.tree.clone() });
        }
        for setting in env::settings(sources, &object(&figment), schema, &mut notes) {
            let tree = nested(&setting.path, &setting.value);
            figment = figment.merge(Layer { name: setting.source, tree });
        }
        let tree = object(&figment);
        Ok((Self { figment, files, tree }, notes))
    }

    /// The folder of the file that sets this key; where none does, of the first file.
    pub(super) fn folder(&self, path: &[String]) -> Option<&Path> {
        let name = self.figment.find_metadata(&path.join(".")).map(|metadata| &*metadata.name);
        let file = self.files.iter().find(|file| Some(file.name.as_str()) == name).or(self.files.first());
        file?.folder()
    }

    /// The source of this key, or of the nearest key around it.
    pub(super) fn source(&self, path: &[String]) -> String {
        let exact = (1..=path.len()).rev().find_map(|length| {
            let path = path.get(..length)?;
            Some((path, self.figment.find_metadata(&path.join("."))?))
        });
        let Some((_, metadata)) = exact else {
            return self.files.first().map_or_else(|| "no source".to_owned(), |file| file.place(path));
        };
        let file = self.files.iter().find(|file| file.name == metadata.name);
        file.map_or_else(|| metadata.name.to_string(), |file| file.place(path))
    }
}

/// One value under its keys.
fn nested(path: &[String], value: &Value) -> Dict {
    let Some((first, rest)) = path.split_first() else {
        return Dict::new();
    };
    let inner = match rest {
        [] => Figmented::serialize(value).unwrap_or_else(|_| Figmented::from("")),
        _ => Figmented::from(nested(rest, value)),
    };
    Dict::from([(first.clone(), inner)])
}

fn object(figment: &Figment) -> Object<String, Value> {
    // Every value comes from TOML or JSON, so it can be represented in JSON.
    figment.extract::<Figmented>().ok().and_then(|value| value.deserialize().ok()).unwrap_or_default()
}
