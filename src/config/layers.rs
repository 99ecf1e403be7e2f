//! Merges file, environment and flags, and keeps the source of each value.

use figment::value::{Dict, Map, Value as Figmented};
use figment::{Figment, Metadata, Profile, Provider};
use serde_json::{Map as Object, Value};

use super::file::File;
use super::problem::{Notes, Problem};
use super::schema::Schema;
use super::sources::Sources;
use super::{env, file};

/// The name of the file's layer; its lines are looked up in the file itself.
const FILE: &str = "file";

/// All values that were set, with their sources.
pub(super) struct Layers {
    figment: Figment,
    file: Option<File>,
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
    /// If the file cannot be read; no other error is reported then.
    pub(super) fn read(sources: &Sources, schema: &Schema) -> Result<(Self, Notes), Problem> {
        let mut notes = Notes::default();
        let file = match file::find(sources.file.as_deref()) {
            Some(path) => Some(File::read(&path)?),
            None => {
                notes
                    .warnings
                    .push(format!("there is no configuration file: looked for {}", file::searched()));
                None
            }
        };
        let mut figment = Figment::new();
        if let Some(file) = &file {
            figment = figment.merge(Layer { name: FILE.to_owned(), tree: file.tree.clone() });
        }
        for setting in env::settings(sources, &object(&figment), schema, &mut notes) {
            let tree = nested(&setting.path, &setting.value);
            figment = figment.merge(Layer { name: setting.source, tree });
        }
        let tree = object(&figment);
        Ok((Self { figment, file, tree }, notes))
    }

    /// The source of this key, or of the nearest key around it.
    pub(super) fn source(&self, path: &[String]) -> String {
        let exact = (1..=path.len()).rev().find_map(|length| {
            let path = path.get(..length)?;
            Some((path, self.figment.find_metadata(&path.join("."))?))
        });
        match (exact, &self.file) {
            (Some((_, metadata)), _) if metadata.name != FILE => metadata.name.to_string(),
            (_, Some(file)) => file.place(path),
            (_, None) => "no source".to_owned(),
        }
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
