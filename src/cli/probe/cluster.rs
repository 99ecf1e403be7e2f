//! `pontoon status --cluster`: members and owners as tables.

use serde_json::Value;

use super::aligned;
use crate::cli::failure::Failure;
use crate::log::printable::{printable, printable_json};

/// The members of the cluster and the instances, as the daemon knows them.
pub(super) fn table(body: &[u8], json: bool) -> Result<String, Failure> {
    let status: Value = serde_json::from_slice(body)
        .map_err(|error| Failure::Failed(format!("/status is not JSON: {error}")))?;
    let cluster = status.get("cluster").ok_or_else(|| {
        Failure::Failed(
            "the daemon is not in a cluster; set cluster.enabled = true and restart it".to_owned(),
        )
    })?;
    if json {
        return Ok(printable_json(cluster.to_string().as_bytes()) + "\n");
    }
    let list = |key: &str| cluster.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let number =
        |value: &Value, pointer: &str| value.pointer(pointer).map(Value::to_string).unwrap_or_default();
    let mut members =
        vec![["MEMBER", "WEIGHT", "LABELS", "OWNED", "READY FOR", "HEARTBEAT", ""].map(str::to_owned)];
    for member in list("members") {
        let labels = member.get("labels").and_then(Value::as_array).cloned().unwrap_or_default();
        let labels: Vec<_> = labels.iter().filter_map(Value::as_str).map(printable).collect();
        let is_leaving = member.get("leaving") == Some(&Value::Bool(true));
        members.push([
            text(&member, "/name"),
            number(&member, "/weight"),
            labels.join(","),
            number(&member, "/owned"),
            number(&member, "/waits"),
            format!("{} ms ago", number(&member, "/heartbeat_ms")),
            if is_leaving { "leaving" } else { "" }.to_owned(),
        ]);
    }
    let mut instances = vec![["INSTANCE", "OWNER", "SHOULD BE", "LEASE"].map(str::to_owned)];
    for instance in list("instances") {
        let (owner, target) = (text(&instance, "/owner"), text(&instance, "/target"));
        let target = if owner == target { String::new() } else { target };
        let owner = if owner.is_empty() { "none".to_owned() } else { owner };
        let lease = instance.get("lease_ms").map(|age| format!("renewed {age} ms ago")).unwrap_or_default();
        instances.push([text(&instance, "/instance"), owner, target, lease]);
    }
    let takeovers = ["free", "released", "expired"]
        .map(|reason| format!("{} {reason}", number(cluster, &format!("/takeovers/{reason}"))));
    let takeovers = format!("taken by {}: {}", text(cluster, "/name"), takeovers.join(", "));
    let problem = Some(text(cluster, "/problem")).filter(|problem| !problem.is_empty());
    let problem = problem.map(|problem| format!("\n{problem}\n")).unwrap_or_default();
    Ok(format!("{}\n{}\n{takeovers}\n{problem}", aligned(&members), aligned(&instances)))
}

fn text(value: &Value, pointer: &str) -> String {
    printable(value.pointer(pointer).and_then(Value::as_str).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_shown_as_members_and_owners() {
        let body = br#"{"cluster":{"name":"a","problem":"no lease\u001b","members":[
            {"name":"a","weight":1,"labels":["eu","x"],"owned":1,"waits":0,"leaving":false,"heartbeat_ms":0},
            {"name":"b","weight":2,"labels":[],"owned":0,"waits":1,"leaving":true,"heartbeat_ms":612}],
            "instances":[{"instance":"bank","owner":null,"target":null},
            {"instance":"shop","owner":"a","target":"b","lease_ms":310}],
            "takeovers":{"free":1,"released":0,"expired":2}}}"#;
        let shown = table(body, false).ok().unwrap();
        let lines: Vec<_> =
            shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "MEMBER WEIGHT LABELS OWNED READY FOR HEARTBEAT",
                "a 1 eu,x 1 0 0 ms ago",
                "b 2 0 1 612 ms ago leaving",
                "",
                "INSTANCE OWNER SHOULD BE LEASE",
                "bank none",
                "shop a b renewed 310 ms ago",
                "",
                "taken by a: 1 free, 0 released, 2 expired",
                "",
                "no lease\\u{1b}",
            ]
        );
        assert!(table(b"{}", false).is_err());
    }
}
