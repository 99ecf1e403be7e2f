//! What a new configuration means for the instances that run: those whose settings stay the same keep their sockets.

use std::collections::BTreeSet;

use crate::config::Config;

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// These drain and end.
    pub stop: BTreeSet<String>,
    /// These start; those that run drain and end first.
    pub start: BTreeSet<String>,
    /// Settings that changed and need a restart of the daemon.
    pub restart: Vec<&'static str>,
}

/// Compares two configurations. What every instance uses (`nats`, `events`, `delivery`, `commands`, `shutdown`) concerns
/// every instance.
pub fn plan(old: &Config, new: &Config) -> Plan {
    let shared = old.nats == new.nats
        && old.events == new.events
        && old.delivery == new.delivery
        && old.commands == new.commands
        && old.shutdown == new.shutdown;
    let mut plan = Plan::default();
    let runs =
        |config: &Config, name: &str| config.connectors.get(name).is_some_and(|instance| instance.enabled);
    for name in old.connectors.keys().chain(new.connectors.keys()) {
        let (before, after) = (runs(old, name), runs(new, name));
        if before && after && shared && old.connectors.get(name) == new.connectors.get(name) {
            continue;
        }
        if before {
            plan.stop.insert(name.clone());
        }
        if after {
            plan.start.insert(name.clone());
        }
    }
    if old.admin != new.admin {
        plan.restart.push("admin");
    }
    if old.log != new.log {
        plan.restart.push("log");
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Instance;

    fn config(instances: &[(&str, &str, bool)]) -> Config {
        let mut config = Config::default();
        for (name, url, enabled) in instances {
            let settings = [("url".to_owned(), (*url).into())].into_iter().collect();
            let instance =
                Instance { kind: "sub0".into(), enabled: *enabled, transport: Default::default(), settings };
            config.connectors.insert((*name).to_owned(), instance);
        }
        config
    }

    fn names(set: &BTreeSet<String>) -> Vec<&str> {
        set.iter().map(String::as_str).collect()
    }

    #[test]
    fn only_what_changed_is_touched() {
        let old = config(&[
            ("kept", "ws://a", true),
            ("changed", "ws://b", true),
            ("gone", "ws://c", true),
            ("off", "ws://d", true),
        ]);
        let new = config(&[
            ("kept", "ws://a", true),
            ("changed", "ws://x", true),
            ("new", "ws://e", true),
            ("off", "ws://d", false),
        ]);
        let plan = plan(&old, &new);
        assert_eq!(names(&plan.stop), ["changed", "gone", "off"]);
        assert_eq!(names(&plan.start), ["changed", "new"]);
        assert!(plan.restart.is_empty());
    }

    #[test]
    fn what_all_use_concerns_all() {
        let old = config(&[("a", "ws://a", true), ("b", "ws://b", false)]);
        let mut new = old.clone();
        new.events.raw = false;
        new.admin.enabled = false;
        let plan = plan(&old, &new);
        assert_eq!((names(&plan.stop), names(&plan.start)), (vec!["a"], vec!["a"]));
        assert_eq!(plan.restart, ["admin"]);
    }
}
