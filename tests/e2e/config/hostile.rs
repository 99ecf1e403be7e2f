//! Damaged files and hostile variables cause no panic, and no message shows a secret.

use std::path::Path;

use pontoon::config::{self, Sources};
use proptest::prelude::*;

use super::{CANARY, registry};

const GOOD: &str = r#"
[nats]
user = "pontoon"
password = "hunter2canary"
tls = { required = false }

[connectors.shop]
type = "sub0"
url = "ws://127.0.0.1:8000/ws"
token = "hunter2canary"
max_calls = 8
"#;

/// Characters that mean something to TOML, and some without a meaning.
const CHARACTERS: [&str; 16] =
    ["\"", "'", "=", "[", "]", "{", "}", ",", ".", "\n", "#", "1", "\\", "\u{202e}", "\u{1b}", "x"];

fn messages(text: &str, name: &str, env: Vec<(String, Option<String>)>) -> String {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, text).unwrap();
    match config::load(&registry(), &Sources { file: Some(file), env, ..Sources::default() }) {
        Ok(loaded) => loaded.warnings.join("\n"),
        Err(problems) => problems.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_shows_no_secret(edits in prop::collection::vec((0.0..1.0f64, 0..3usize, 0..16usize), 1..4)) {
        let mut text = GOOD.to_owned();
        for (place, cut, insert) in edits {
            let at = (place * text.len() as f64) as usize;
            let end = (at + cut).min(text.len());
            // The secrets stay whole, or a piece of one would be missed below; keys may not become a part of one.
            let whole = |text: &str| text.matches(CANARY).count() == 2;
            let mut edited = text.clone();
            if edited.is_char_boundary(at) && edited.is_char_boundary(end) {
                edited.replace_range(at..end, CHARACTERS[insert]);
            }
            if whole(&edited) {
                text = edited;
            }
        }
        let shown = messages(&text, "damaged.toml", Vec::new());
        prop_assert!(!shown.contains(CANARY), "{text}\n{shown}");
        prop_assert!(!shown.contains(['\u{202e}', '\u{1b}']), "{text}\n{shown}");
    }

    #[test]
    fn a_hostile_variable_does_no_harm(name in "[A-Z_]{0,12}(__[A-Z_]{0,8}){0,3}", text in "[\\[{\"a-z0-9.,= ]{0,20}") {
        let known = ["NATS__", "CONNECTORS__SHOP__", "DELIVERY__", ""];
        for lead in known {
            let env = vec![(format!("PONTOON_{lead}{name}"), Some(text.clone()))];
            let shown = messages(GOOD, "variables.toml", env);
            prop_assert!(!shown.contains(CANARY), "{shown}");
        }
    }
}
