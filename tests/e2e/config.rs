//! Configurations as data: the first comments of every file in `tests/config/invalid` list what is wrong with it,
//! and the real binary must report exactly that; every file in `tests/config/valid` loads.
//!
//! `# expect: a … b` is one fault, a line that holds `a` and later `b`; `# warn: …` one warning; `# env: A=b` a variable.

mod cli;
mod drop_ins;
mod hostile;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pontoon::config::{self, Loaded, Problems, Sources, schema::Schema};
use pontoon::registry::Registry;
use pontoon::settings::{self, Config};
use serde_json::Value;

/// Every secret in the files is this one.
const CANARY: &str = "hunter2canary";

fn registry() -> Registry {
    Registry::new().with::<pontoon_generic::Socketio>().with::<pontoon_sub0::Sub0>()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs the real binary in `tests/config`.
fn pontoon(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pontoon"));
    let ours = std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| name.to_string_lossy().starts_with("PONTOON_"));
    for name in ours {
        command.env_remove(name);
    }
    command.current_dir(root().join("tests/config")).args(arguments).envs(variables.iter().copied());
    command.output().unwrap()
}

struct Case {
    name: String,
    text: String,
}

impl Case {
    fn all(folder: &str) -> Vec<Self> {
        let entries = std::fs::read_dir(root().join("tests/config").join(folder)).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let case = |file: PathBuf| Self {
            name: format!("{folder}/{}", file.file_name().unwrap().to_string_lossy()),
            text: std::fs::read_to_string(file).unwrap(),
        };
        files.into_iter().map(case).collect()
    }

    fn annotations(&self, word: &str) -> Vec<&str> {
        let head = self.text.lines().take_while(|line| line.starts_with('#'));
        head.filter_map(|line| line.strip_prefix("# ")?.strip_prefix(word)?.strip_prefix(": ")).collect()
    }

    fn check(&self) -> Output {
        let variables: Vec<_> =
            self.annotations("env").into_iter().map(|pair| pair.split_once('=').unwrap()).collect();
        let output = pontoon(&["check", "--config", &self.name], &variables);
        for stream in [&output.stdout, &output.stderr] {
            assert!(!String::from_utf8_lossy(stream).contains(CANARY), "{} shows a secret", self.name);
        }
        output
    }
}

fn holds(line: &str, wanted: &str) -> bool {
    let mut rest = line;
    wanted.split('…').map(str::trim).all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// Each wanted line is there, and no other.
fn compare(name: &str, wanted: &[&str], lines: &[&str]) {
    let shown = lines.join("\n");
    for wanted in wanted {
        assert!(
            lines.iter().any(|line| holds(line, wanted)),
            "{name}: not reported:\n  {wanted}\nbut\n{shown}"
        );
    }
    assert_eq!(lines.len(), wanted.len(), "{name}: more was reported\n{shown}");
}

#[test]
fn every_invalid_file_is_refused_with_all_that_is_wrong_and_nothing_else() {
    let cases = Case::all("invalid");
    assert!(cases.len() >= 25);
    for case in cases {
        let output = case.check();
        let output_text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{}: {output_text}", case.name);
        assert!(output.stdout.is_empty(), "{}", case.name);
        let lines: Vec<&str> =
            output_text.lines().map(|line| line.strip_prefix("error: ").unwrap()).collect();
        compare(&case.name, &case.annotations("expect"), &lines);
    }
}

#[test]
fn every_valid_file_loads_with_the_warnings_it_announces() {
    for case in Case::all("valid") {
        let output = case.check();
        let output_text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{}: {output_text}", case.name);
        assert!(output.stdout.starts_with(b"ok: "), "{}", case.name);
        let lines: Vec<&str> =
            output_text.lines().map(|line| line.strip_prefix("warning: ").unwrap()).collect();
        compare(&case.name, &case.annotations("warn"), &lines);
    }
}

fn load(file: PathBuf, variables: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let env = variables.iter().map(|(name, text)| ((*name).to_owned(), Some((*text).to_owned()))).collect();
    config::load(&registry(), &Sources { file: Some(file), env, ..Sources::default() })
}

#[test]
fn digits_in_a_variable_stay_a_text_where_a_text_is_wanted() {
    let variables = [
        ("PONTOON_NATS__USER", "12345"),
        ("PONTOON_NATS__PASSWORD", "00012345"),
        ("PONTOON_CONNECTORS__SHOP__UID", "007"),
        ("PONTOON_COMMANDS__REPLY_PREFIXES", "_INBOX.,_REPLY."),
        ("PONTOON_DELIVERY__REPLICAS", "3"),
    ];
    let Loaded { config, warnings, .. } = load(root().join("config/minimal.toml"), &variables).ok().unwrap();
    assert_eq!(config.nats.user.as_deref(), Some("12345"));
    assert_eq!(config.nats.password.unwrap().reveal().unwrap(), "00012345");
    assert_eq!(config.connectors["shop"].settings["uid"], "007");
    assert_eq!(config.commands.reply_prefixes, ["_INBOX.", "_REPLY."]);
    assert_eq!(config.delivery.replicas, 3);
    assert!(warnings.is_empty(), "a secret in a variable lies in no file: {warnings:?}");
}

#[test]
fn flags_override_variables_and_variables_override_the_file() {
    let flags = vec![("--log-level", "log.level", "trace".to_owned())];
    let env = [("PONTOON_LOG__LEVEL", "debug"), ("PONTOON_LOG__FORMAT", "json")];
    let env = env.map(|(name, text)| (name.to_owned(), Some(text.to_owned()))).to_vec();
    let file = Some(root().join("config/pontoon.toml"));
    let config =
        config::load(&registry(), &Sources { file, env, flags, ..Sources::default() }).ok().unwrap().config;
    assert_eq!((config.log.level.as_str(), config.log.format), ("trace", settings::LogFormat::Json));
}

#[test]
fn a_wrong_flag_is_named() {
    let output = pontoon(&["check", "--config", "valid/inline-and-dotted.toml", "--log-format", "xml"], &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        String::from_utf8(output.stderr).unwrap().contains("flag --log-format: log.format: is not a value")
    );
}

#[test]
fn a_file_that_was_named_must_be_there() {
    for (arguments, variables) in [
        (vec!["check", "--config", "no-such.toml"], vec![]),
        (vec!["check"], vec![("PONTOON_CONFIG", "no-such.toml")]),
        (vec!["run"], vec![("PONTOON_CONFIG", "no-such.toml")]),
    ] {
        let output = pontoon(&arguments, &variables);
        assert_eq!(output.status.code(), Some(78));
        assert!(String::from_utf8(output.stderr).unwrap().contains("no-such.toml: cannot be read"));
    }
}

#[test]
fn a_secret_that_every_user_may_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (secret, file) = (folder.join("open.secret"), folder.join("open-secret.toml"));
    let table = "[connectors.shop]\ntype = \"sub0\"\nurl = \"ws://127.0.0.1:1/\"\ntoken = { file = ";
    std::fs::write(&secret, CANARY).unwrap();
    std::fs::write(&file, format!("{table}\"{}\" }}\n", secret.display())).unwrap();
    for (mode, warned) in [(0o644, 1), (0o640, 0), (0o600, 0)] {
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
        let warnings = load(file.clone(), &[]).ok().unwrap().warnings;
        assert_eq!(warnings.len(), warned, "{mode:o}: {warnings:?}");
        assert!(
            warnings.iter().all(|warning| warning.contains("world-readable") && !warning.contains(CANARY))
        );
    }
}

#[test]
fn a_configuration_prints_no_secret() {
    let variables = [("PONTOON_NATS__TOKEN", CANARY), ("PONTOON_CONNECTORS__SHOP__TOKEN", CANARY)];
    let loaded = load(root().join("config/minimal.toml"), &variables).ok().unwrap();
    assert!(!format!("{:?}", loaded.config).contains(CANARY));
}

/// The keys below a part of the schema that lead to values, with their defaults.
fn leaves(schema: &Value, node: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    let resolve = |node: &Value| match node["$ref"].as_str() {
        Some(target) => schema.pointer(target.trim_start_matches('#')).unwrap().clone(),
        None => node.clone(),
    };
    for (key, property) in resolve(node)["properties"].as_object().unwrap() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if path == "connectors" {
            continue;
        }
        if resolve(property).get("properties").is_some() {
            leaves(schema, property, &path, found);
        } else {
            found.push((path, property["default"].clone()));
        }
    }
}

fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value.as_object() {
        // A secret and a rate are one setting each.
        Some(table) if !["env", "file", "requests"].iter().any(|key| table.contains_key(*key)) => {
            for (key, value) in table {
                paths(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, found);
            }
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

fn toml(text: &str) -> Value {
    use figment::providers::Format as _;
    figment::Figment::from(figment::providers::Toml::string(text)).extract().unwrap()
}

#[test]
fn the_shipped_file_names_every_setting_with_its_true_default() {
    let file = root().join("config/pontoon.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(load(file, &[]).ok().unwrap().config, Config::default());

    let schema = Schema::new(&registry());
    let mut wanted = Vec::new();
    leaves(schema.json(), schema.json(), "", &mut wanted);
    let instance = schema.json().pointer("/$defs/sub0/properties/transport").unwrap();
    leaves(schema.json(), instance, "connectors.shop.transport", &mut wanted);
    assert!(wanted.len() >= 43, "{}", wanted.len());

    let (active, mut named) = (toml(&text), BTreeSet::new());
    // A setting behind a # without a space is one that has no default, or part of the example of an instance.
    let setting =
        |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).map(str::to_owned);
    let whole: Vec<String> =
        text.lines().map(|line| setting(line).unwrap_or_else(|| line.to_owned())).collect();
    let whole = toml(&whole.join("\n"));
    paths(&whole, "", &mut named);
    for (path, default) in wanted {
        assert!(named.remove(&path), "{path} is not in config/pontoon.toml");
        let pointer = format!("/{}", path.replace('.', "/"));
        let shown =
            if path.starts_with("connectors.") { whole.pointer(&pointer) } else { active.pointer(&pointer) };
        match shown {
            Some(shown) if !default.is_null() => assert_eq!(normal(shown), normal(&default), "{path}"),
            Some(_) => assert!(path.starts_with("connectors."), "{path} is set, and has no default"),
            None => assert!(default.is_null(), "{path} has the default {default}"),
        }
    }
    let rest: Vec<_> = named.iter().map(String::as_str).collect();
    assert_eq!(
        rest,
        [
            "connectors.shop.cluster.only",
            "connectors.shop.enabled",
            "connectors.shop.isolation",
            "connectors.shop.type",
            "connectors.shop.url"
        ]
    );
}

/// Times are equal however they are written.
fn normal(value: &Value) -> Value {
    let time = value.as_str().and_then(|text| text.parse::<pontoon_sdk::Span>().ok());
    time.map_or_else(|| value.clone(), |time| Value::from(time.to_string()))
}

#[test]
fn the_minimal_file_loads() {
    let loaded = load(root().join("config/minimal.toml"), &[]).ok().unwrap();
    assert_eq!(loaded.instances.len(), 1);
    assert!(loaded.warnings.is_empty());
}

#[test]
fn the_sample_of_every_connector_passes_the_check() {
    let connectors = String::from_utf8(pontoon(&["connectors"], &[]).stdout).unwrap();
    // Behind an empty line are the recipes.
    let listed = connectors.lines().take_while(|line| !line.is_empty());
    let kinds: Vec<_> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(kinds.contains(&"sub0") && kinds.contains(&"aui"), "{kinds:?}");
    let names = ["AUI_NETWORK_API_KEY", "FEED_TOKEN", "MINCHAT_API_KEY", "STREAMAVATARS_TOKEN"];
    let secrets = names.map(|name| (name, CANARY));
    // The sample of `script` names it, in the folder of the configuration.
    let script = Path::new(env!("CARGO_TARGET_TMPDIR")).join("feed.js");
    std::fs::copy(root().join("connectors/script/feed.js"), script).unwrap();
    for kind in kinds {
        let sample = pontoon(&["sample", kind], &[]).stdout;
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sample-{kind}.toml"));
        std::fs::write(&file, sample).unwrap();
        let output = pontoon(&["check", "--config", file.to_str().unwrap()], &secrets);
        let output_text =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(output.status.success(), "{kind}: {output_text}");
        assert!(output_text.contains("1 configured, 1 to run, 0 warnings"), "{kind}: {output_text}");
    }
}

/// A file as an earlier release had it loads, with what it has in comments as settings, too.
#[test]
fn configurations_of_an_earlier_release_still_load() {
    let names = [
        "AUI_NETWORK_API_KEY",
        "CHAT_TOKEN",
        "ECHO_KEY",
        "ELIZAOS_API_KEY",
        "FEED_AUTHORIZATION",
        "FEED_KEY",
        "MINCHAT_API_KEY",
        "NAME",
        "NATS_PASSWORD",
        "NATS_TOKEN",
        "STREAMAVATARS_TOKEN",
        "SUB0_TOKEN",
    ];
    let variables = names.map(|name| (name, CANARY));
    // The files of secrets and certificates are not on this machine.
    let file = root().join("tests/config/fixtures/some.pem");
    for Case { name, text } in Case::all("earlier") {
        for text in [text.clone(), pontoon_transcript::uncommented(&text)] {
            let is_path = |part: &str| part.starts_with("/run/") || part.starts_with("/etc/");
            // Nor are certificates that would be read.
            let lines = text.lines().filter(|line| !line.contains("key_file"));
            let text = lines.collect::<Vec<_>>().join("\n");
            let parts = text.split('"').map(|part| if is_path(part) { file.to_str().unwrap() } else { part });
            let placed = parts.collect::<Vec<_>>().join("\"");
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.replace('/', "-"));
            std::fs::write(&path, placed).unwrap();
            let output = pontoon(&["check", "--config", path.to_str().unwrap()], &variables);
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    // And its defaults are those of today.
    let loaded = load(root().join("tests/config/earlier/pontoon.toml"), &[]).ok().unwrap();
    assert_eq!(loaded.config, Config::default());
}
