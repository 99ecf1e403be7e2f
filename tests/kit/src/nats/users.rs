//! The users of the server's configuration that is shipped, for tests that are to get by with what the daemon may do.

use std::env;
use std::fmt::Write as _;

const SHIPPED: &str = include_str!("../../../../deploy/nats/nats-server.conf");
/// The instance that the shipped configuration is for.
const SHIPPED_INSTANCE: &str = "shop";
/// The instances of all tests that may run so. One that is missing here is seen by a violation of its permissions.
pub const INSTANCES: &[&str] = &[
    "agents",
    "akamai",
    "among_others",
    "any",
    "avatars",
    "bank",
    "by_address",
    "by_name",
    "certificate_12",
    "certificate_13",
    "changed",
    "chat",
    "cloudflare",
    "dated",
    "direct",
    "echo",
    "eliza",
    "elsewhere",
    "expired",
    "far",
    "feed",
    "garbage",
    "gone",
    "hangs_up",
    "held",
    "http",
    "kept",
    "mismatch",
    "more",
    "moved",
    "named",
    "nameless",
    "near",
    "new",
    "no_ca",
    "no_file",
    "none",
    "none_12",
    "none_13",
    "not_yet",
    "old",
    "one",
    "only_12",
    "only_13",
    "other",
    "other_ca",
    "other_host",
    "outdated",
    "own",
    "own_12",
    "own_13",
    "past",
    "patient",
    "plain",
    "proxied",
    "redirect",
    "same_12",
    "same_13",
    "shop",
    "sick",
    "socks",
    "stranger",
    "stranger_12",
    "stranger_13",
    "support",
    "tavern",
    "two",
    "well",
];
/// What runs a whole suite as the shipped user: see [`wanted`].
const VARIABLE: &str = "PONTOON_LEAST_PRIVILEGE";

/// Whether servers without users of their own are to have the shipped ones, and the daemon is to be one of them.
pub(super) fn wanted() -> bool {
    env::var_os(VARIABLE).is_some_and(|value| !value.is_empty())
}

/// The password of every user in a test.
pub(super) const PASSWORD: &str = "of-the-tests";

/// The shipped `authorization { … }`, for these instances, and `no_auth_user` for a tester who may do everything.
pub(super) fn authorization(instances: &[&str]) -> String {
    let begin = SHIPPED.find("authorization {").expect("the shipped configuration has users");
    let mut text = "no_auth_user: tester\n".to_owned();
    for line in SHIPPED[begin..].lines() {
        let line = match line.trim_start().strip_prefix("password: $") {
            Some(_) => format!("      password: \"{PASSWORD}\""),
            None => line.to_owned(),
        };
        let upper = SHIPPED_INSTANCE.to_uppercase();
        // A line of the instance's own stands once for each. Comments and the subjects of commands are none.
        let parts =
            [format!("_{SHIPPED_INSTANCE}."), format!("_{upper}"), format!("_JOBS.{SHIPPED_INSTANCE}")];
        let names_it = parts.iter().any(|part| line.contains(part));
        if names_it && line.trim_start().starts_with('"') {
            for instance in instances {
                let own = line
                    .replace(&format!("_{SHIPPED_INSTANCE}."), &format!("_{instance}."))
                    .replace(&format!("_{upper}"), &format!("_{}", instance.to_uppercase()))
                    .replace(&format!("_JOBS.{SHIPPED_INSTANCE}"), &format!("_JOBS.{instance}"));
                let _ = writeln!(text, "{own}");
            }
        } else {
            let _ = writeln!(text, "{line}");
        }
        if line.trim() == "users: [" {
            let _ = writeln!(text, "    {{ user: tester, password: \"{PASSWORD}\" }}");
        }
    }
    text
}

/// The same for the instances of all tests.
pub(super) fn for_all_tests() -> String {
    authorization(INSTANCES)
}

/// What the server has logged of what the daemon's user tried and may not. Servers write its name in different ways.
pub(super) fn violations(log: &str) -> Vec<&str> {
    let is_ours = |line: &&str| line.contains("user:pontoon\"") || line.contains("User \"pontoon\"");
    log.lines().filter(|line| line.contains("Violation")).filter(is_ours).collect()
}
