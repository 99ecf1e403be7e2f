//! From the sources to a checked configuration, or to all errors in it.

use std::collections::BTreeMap;

use pontoon_sdk::Subjects;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::decode::{Prepared, decode, prune};
use super::layers::Layers;
use super::problem::{Notes, Problem, Problems, path};
use super::report::Report;
use super::schema::Schema;
use super::shape::Shape;
use super::sources::Sources;
use super::{check, instances, secrets};
use crate::registry::Registry;
use crate::settings::Config;

/// A configuration without errors.
pub struct Loaded {
    /// The settings, over the defaults.
    pub config: Config,
    /// Warnings for the operator, a line each; without secrets.
    pub warnings: Vec<String>,
    /// The instances that are enabled, by name.
    pub instances: Vec<Prepared>,
}

/// Reads and checks the whole configuration, and builds the instances. Opens no socket.
///
/// # Errors
/// All errors.
pub fn load(registry: &Registry, sources: &Sources) -> Result<Loaded, Problems> {
    let schema = Schema::new(registry);
    let (layers, notes) = Layers::read(sources, &schema).map_err(|problem| Problems(vec![problem]))?;
    let mut report = Report::new(&layers);
    let mut config = tables(&layers, &schema, &mut report);
    let instances = instances::build(&layers.tree, &schema, registry, &mut config, &mut report);
    let spool = &mut config.delivery.spool;
    spool.path = spool.path.take().or_else(|| sources.state_directory.clone());
    check::all(&config, &layers.tree, &mut report);
    let warnings = finish(notes, report)?;
    Ok(Loaded { config, warnings, instances })
}

/// Reads and checks all tables but the instances', for commands that only connect to NATS or to a running daemon.
/// Returned with it: the type of each instance, by name.
///
/// # Errors
/// All errors in those tables.
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

/// The subjects of NATS that instances may send requests to (`ask`), as far as they are subjects.
///
/// # Errors
/// That the sources cannot be read.
pub fn asks(registry: &Registry, sources: &Sources) -> Result<Vec<String>, Problems> {
    let schema = Schema::new(registry);
    let (layers, _) = Layers::read(sources, &schema).map_err(|problem| Problems(vec![problem]))?;
    let instances =
        layers.tree.get("connectors").and_then(Value::as_object).into_iter().flat_map(Map::values);
    // Of a script the list, of a table what its reactions ask.
    let listed = instances.flat_map(|instance| {
        let list = instance.get("ask").and_then(|list| Subjects::deserialize(list).ok());
        let reactions = instance.get("on").and_then(Value::as_array).into_iter().flatten();
        let asked =
            reactions.filter_map(|reaction| Some(reaction.pointer("/ask/subject")?.as_str()?.to_owned()));
        list.into_iter().chain(asked.map(|subject| Subjects::from_iter([subject])))
    });
    let good = listed.filter(|subjects| subjects.check("").is_ok());
    let mut subjects: Vec<String> =
        good.flat_map(|subjects| subjects.iter().cloned().collect::<Vec<_>>()).collect();
    subjects.sort();
    subjects.dedup();
    Ok(subjects)
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

/// The settings of all tables but the instances'.
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
        jobs: decode(table("jobs"), &path(["jobs"]), report),
        cluster: decode(table("cluster"), &path(["cluster"]), report),
        admin: decode(table("admin"), &path(["admin"]), report),
        log: decode(table("log"), &path(["log"]), report),
        shutdown: decode(table("shutdown"), &path(["shutdown"]), report),
        connectors: BTreeMap::new(),
    }
}
