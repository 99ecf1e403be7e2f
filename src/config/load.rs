//! From the sources to a configuration that was checked as a whole, or to everything that is wrong with it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::layers::{Layers, Notes};
use super::problem::{Path, Problem, Problems, Report, path};
use super::schema::Schema;
use super::shape::{Shape, remove};
use super::{check, instances, secrets};
use crate::instance::Run;
use crate::registry::{Registry, keys};
use crate::settings::Config;

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

/// A configuration without a fault.
pub struct Loaded {
    /// What was set, over the defaults.
    pub config: Config,
    /// What the operator should know, a line each; free of secrets.
    pub warnings: Vec<String>,
    /// The instances that are enabled, by name.
    pub instances: Vec<Prepared>,
}

/// An instance that can be started.
pub struct Prepared {
    /// Its name.
    pub name: String,
    /// The connector, settings and all.
    pub run: Box<dyn Run>,
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

/// Reads and checks everything, and builds the instances. Opens no socket.
///
/// # Errors
/// Everything that is wrong.
pub fn load(registry: &Registry, sources: &Sources) -> Result<Loaded, Problems> {
    let schema = Schema::new(registry);
    let (layers, notes) = Layers::read(sources, &schema).map_err(|problem| Problems(vec![problem]))?;
    let mut report = Report::new(&layers);
    let mut config = tables(&layers, &schema, &mut report);
    let instances = instances::build(&layers.tree, &schema, registry, &mut config, &mut report);
    check::all(&config, &layers.tree, &mut report);
    let warnings = finish(notes, report)?;
    Ok(Loaded { config, warnings, instances })
}

/// Reads and checks what is not an instance's, for commands that only speak to NATS or to a running daemon. Beside it
/// comes the type of each instance, by name.
///
/// # Errors
/// Everything that is wrong there.
pub fn shared(
    registry: &Registry,
    sources: &Sources,
) -> Result<(Config, BTreeMap<String, String>), Problems> {
    let schema = Schema::new(registry);
    let (layers, notes) = Layers::read(sources, &schema).map_err(|problem| Problems(vec![problem]))?;
    let mut report = Report::new(&layers);
    let config = tables(&layers, &schema, &mut report);
    check::all(&config, &layers.tree, &mut report);
    finish(notes, report)?;
    let named =
        |(name, table): (&String, &Value)| Some((name.clone(), table.get("type")?.as_str()?.to_owned()));
    let instances = layers.tree.get("connectors").and_then(Value::as_object);
    Ok((config, instances.into_iter().flatten().filter_map(named).collect()))
}

fn finish(notes: Notes, report: Report<'_>) -> Result<Vec<String>, Problems> {
    let (found, warned) = report.finish();
    let problems: Vec<Problem> = notes.problems.into_iter().chain(found).collect();
    if problems.is_empty() {
        Ok(notes.warnings.into_iter().chain(warned).collect())
    } else {
        Err(Problems(problems))
    }
}

/// All tables but the instances'.
fn tables(layers: &Layers, schema: &Schema, report: &mut Report<'_>) -> Config {
    let mut tree: Map<String, Value> = layers.tree.clone();
    tree.remove("connectors");
    let mut tree = Value::Object(tree);
    let mut shape = Shape::default();
    shape.check(schema.root(), &tree, &[]);
    secrets::check(&shape.secrets, true, report);
    prune(shape, &mut tree, &[], report);
    let mut table = |name: &str| tree.as_object_mut().and_then(|tree| tree.remove(name));
    Config {
        nats: decode(table("nats"), &path(["nats"]), report),
        events: decode(table("events"), &path(["events"]), report),
        delivery: decode(table("delivery"), &path(["delivery"]), report),
        commands: decode(table("commands"), &path(["commands"]), report),
        admin: decode(table("admin"), &path(["admin"]), report),
        log: decode(table("log"), &path(["log"]), report),
        shutdown: decode(table("shutdown"), &path(["shutdown"]), report),
        connectors: BTreeMap::new(),
    }
}

/// Reports what the shape of the tree at this path was found to be, and takes the wrong values out, so that the others
/// can be looked at.
pub(super) fn prune(shape: Shape, tree: &mut Value, at: &[String], report: &mut Report<'_>) {
    for fault in shape.faults {
        report.problem(&fault.path, fault.what);
        if let Some(below) = fault.path.get(at.len()..)
            && !fault.missing
        {
            remove(tree, below);
        }
    }
}

/// Reads a table, again and again without what is wrong, until all that is wrong has been said.
pub(super) fn decode<T: DeserializeOwned + Default>(
    table: Option<Value>,
    at: &[String],
    report: &mut Report<'_>,
) -> T {
    let Some(mut table) = table else {
        return T::default();
    };
    loop {
        match serde_path_to_error::deserialize::<_, T>(table.clone()) {
            Ok(decoded) => return decoded,
            Err(error) => {
                let keys = keys(error.path());
                let path: Path = at.iter().chain(&keys).cloned().collect();
                report.problem(&path, error.into_inner().to_string());
                if !remove(&mut table, &keys) {
                    return T::default();
                }
            }
        }
    }
}
