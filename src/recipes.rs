//! Configurations for public protocols, which this binary prints: the folders of `connectors/recipes`.

/// A configuration for a public protocol.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// The name of its folder.
    pub name: &'static str,
    /// The type of its connector.
    pub kind: &'static str,
    /// Its commented table.
    pub config: &'static str,
    /// The script that the table names, if it is one: its file, and what is in it.
    pub script: Option<(&'static str, &'static str)>,
}

/// Lists recipes by the names of their folders, the types of their connectors, and the files of their scripts.
macro_rules! recipes {
    ($($name:literal: $kind:literal $(, $script:literal)?;)*) => {
        /// All of them, by name.
        pub const RECIPES: &[Recipe] = &[$(Recipe {
            name: $name,
            kind: $kind,
            config: recipes!(@text $name, "config.toml"),
            script: recipes!(@script $name $(, $script)?),
        }),*];
    };
    (@script $name:literal) => { None };
    (@script $name:literal, $script:literal) => { Some(($script, recipes!(@text $name, $script))) };
    (@text $name:literal, $file:literal) => { include_str!(concat!("../connectors/recipes/", $name, "/", $file)) };
}

recipes! {
    "discord": "websocket";
    "eventsub": "websocket";
    "graphql": "websocket";
    "homeassistant": "websocket";
    "irc": "script", "irc.js";
    "jsonrpc": "websocket";
    "market": "websocket";
    "phoenix": "websocket";
    "pusher": "websocket";
    "signalr": "websocket";
    "slack": "websocket";
    "stomp": "script", "stomp.js";
}

impl Recipe {
    /// What it is, in one line: the comment with which it begins.
    pub fn summary(&self) -> &'static str {
        self.config.lines().next().unwrap_or_default().trim_start_matches("# ")
    }

    /// The recipe of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        RECIPES.iter().find(|recipe| recipe.name == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    #[test]
    fn every_folder_is_listed_and_has_its_page() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/connectors/recipes");
        let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let folders: BTreeSet<_> = folders.filter(|path| path.is_dir()).collect();
        let names: BTreeSet<_> =
            RECIPES.iter().map(|recipe| std::path::Path::new(folder).join(recipe.name)).collect();
        assert_eq!(folders, names);
        for (recipe, folder) in RECIPES.iter().zip(&folders) {
            let page = fs::read_to_string(folder.join("README.md")).unwrap();
            assert!(page.contains("\nCovered: ") && page.contains("\nNot covered: "), "{}", recipe.name);
            assert!(recipe.config.contains(&format!("\ntype = \"{}\"\n", recipe.kind)), "{}", recipe.name);
            let script = recipe.script.map(|(file, _)| format!("\nscript = \"{file}\"\n"));
            assert_eq!(script.is_some(), recipe.kind == "script", "{}", recipe.name);
            assert!(script.is_none_or(|script| recipe.config.contains(&script)), "{}", recipe.name);
        }
    }
}
