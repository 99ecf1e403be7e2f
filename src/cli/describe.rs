//! `pontoon connectors`, `sample` and `schema`: the connectors of this binary, their operations, settings and samples.

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use super::Outcome;
use super::failure::Failure;
use crate::config::schema::Schema;
use crate::recipes::{RECIPES, Recipe};
use crate::registry::{ConnectorType, Registry};

/// Lists the connectors with their operations, and the recipes for them.
pub(super) fn connectors(registry: &Registry) -> Outcome {
    let mut out = stdout().lock();
    for connector in registry.iter() {
        let operations: Vec<_> = connector.operations().iter().map(|operation| operation.name).collect();
        writeln!(out, "{:<16} {}", connector.name(), operations.join(", "))?;
    }
    let mut recipes = RECIPES.iter().filter(|recipe| registry.get(recipe.kind).is_some()).peekable();
    if recipes.peek().is_some() {
        writeln!(out, "\nRecipes for public protocols, as `pontoon sample --recipe <name>` prints them:\n")?;
    }
    for recipe in recipes {
        writeln!(out, "{:<16} {}", recipe.name, recipe.summary())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Describes one connector.
pub(super) fn connector(registry: &Registry, kind: &str) -> Outcome {
    let connector = find(registry, kind)?;
    let mut out = stdout().lock();
    writeln!(out, "Operations of {}, as <prefix>.command.{0}.<instance>.<operation>:\n", connector.name())?;
    for operation in connector.operations() {
        let argument = operation.argument.map(|name| format!(".<{name}>")).unwrap_or_default();
        let repeat = if operation.idempotent { "may be repeated" } else { "not to be repeated" };
        writeln!(out, "  {}{argument}", operation.name)?;
        writeln!(out, "      {}", operation.summary)?;
        writeln!(out, "      answers up to \"{}\"; {repeat}", operation.delivery.as_str())?;
    }
    writeln!(out, "\nSettings, in [connectors.<instance>]:\n")?;
    for (key, form, description) in Schema::new(registry).settings(kind) {
        writeln!(out, "  {key}: {form}")?;
        if !description.is_empty() {
            writeln!(out, "      {description}")?;
        }
    }
    writeln!(out, "\n`pontoon sample {kind}` prints a table to begin with.")?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a connector's sample.
pub(super) fn sample(registry: &Registry, kind: &str) -> Outcome {
    stdout().write_all(find(registry, kind)?.sample().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the table of a recipe.
pub(super) fn recipe(name: &str) -> Outcome {
    stdout().write_all(named(name)?.config.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The recipe of this name.
pub(super) fn named(name: &str) -> Result<&'static Recipe, Failure> {
    Recipe::named(name).ok_or_else(|| {
        let known: Vec<_> = RECIPES.iter().map(|recipe| recipe.name).collect();
        Failure::Usage(format!("\"{name}\" is not a recipe of this binary; known are: {}", known.join(", ")))
    })
}

/// Prints the schema.
pub(super) fn schema(registry: &Registry) -> Outcome {
    writeln!(stdout(), "{:#}", Schema::new(registry).json())?;
    Ok(ExitCode::SUCCESS)
}

fn find<'r>(registry: &'r Registry, kind: &str) -> Result<&'r dyn ConnectorType, Failure> {
    registry.get(kind).ok_or_else(|| {
        let known: Vec<_> = registry.iter().map(ConnectorType::name).collect();
        Failure::Usage(format!(
            "\"{kind}\" is not a connector of this binary; known are: {}",
            known.join(", ")
        ))
    })
}
