//! From two configurations to the instances that must stop and start: unchanged ones keep their sockets.

use std::collections::BTreeSet;

use crate::settings::Config;

/// The instances that a new configuration stops and starts. One whose `[connectors.<name>]` table is unchanged goes on
/// and applies changes of the other tables while it runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Instances to drain and end.
    pub stop: BTreeSet<String>,
    /// Instances to start, after a running one of the same name has drained.
    pub start: BTreeSet<String>,
}

/// Compares two configurations.
///
/// # Errors
/// If no instance would be left, as in a file that was truncated. To stop all instances, stop the daemon.
pub fn plan(old: &Config, new: &Config) -> Result<Plan, String> {
    let runs =
        |config: &Config, name: &str| config.connectors.get(name).is_some_and(|instance| instance.enabled);
    let any = |config: &Config| config.connectors.values().any(|instance| instance.enabled);
    if any(old) && !any(new) {
        return Err(
            "no instance is enabled in it, and a reload does not stop all instances: check that the file is \
                    complete, or stop the daemon"
                .into(),
        );
    }
    let mut plan = Plan::default();
    for name in old.connectors.keys().chain(new.connectors.keys()) {
        let (before, after) = (runs(old, name), runs(new, name));
        if before && after && old.connectors.get(name) == new.connectors.get(name) {
            continue;
        }
        if before {
            plan.stop.insert(name.clone());
        }
        if after {
            plan.start.insert(name.clone());
        }
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Instance;

    fn config(instances: &[(&str, &str, bool)]) -> Config {
        let mut config = Config::default();
        for (name, url, enabled) in instances {
            let settings = [("url".to_owned(), (*url).into())].into_iter().collect();
            let instance = Instance {
                kind: "sub0".into(),
                enabled: *enabled,
                isolation: Default::default(),
                transport: Default::default(),
                cluster: Default::default(),
                revision: 0,
                settings,
            };
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
        let plan = plan(&old, &new).unwrap();
        assert_eq!(names(&plan.stop), ["changed", "gone", "off"]);
        assert_eq!(names(&plan.start), ["changed", "new"]);
    }

    #[test]
    fn a_change_of_the_shared_tables_stops_no_instance() {
        let old = config(&[("a", "ws://a", true), ("b", "ws://b", false)]);
        let mut new = old.clone();
        new.events.raw = false;
        new.nats.prefix = "acme".into();
        new.admin.enabled = false;
        assert_eq!(plan(&old, &new), Ok(Plan::default()));
    }

    #[test]
    fn a_configuration_without_instances_is_refused_where_there_were_any() {
        let old = config(&[("a", "ws://a", true)]);
        for new in [config(&[]), config(&[("a", "ws://a", false)])] {
            assert!(plan(&old, &new).unwrap_err().contains("complete"));
            assert_eq!(plan(&new, &new), Ok(Plan::default()));
            assert_eq!(names(&plan(&new, &old).unwrap().start), ["a"]);
        }
        // A renamed instance still leaves one.
        assert_eq!(names(&plan(&old, &config(&[("b", "ws://a", true)])).unwrap().stop), ["a"]);
    }
}
