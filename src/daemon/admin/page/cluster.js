// The cluster as this daemon knows it: members, and the owner of each instance.

import { chip, element, number, table } from "./dom.js";

/** How many instances are shown; those that do not run where they should come first. */
const INSTANCES = 500;

/** Shows this state of the cluster. */
export function show(section, cluster) {
  const { free, released, expired } = cluster.takeovers;
  const moved = ({ owner, target }) => owner !== target;
  const instances = [...cluster.instances].sort((a, b) => moved(b) - moved(a));
  const more = instances.length - INSTANCES;
  section.replaceChildren(
    element("article", { class: "card" },
      element("header", {}, element("h2", {}, "Members"), element("span", { class: "soft" }, `as ${cluster.name} knows them`)),
      cluster.problem ? element("p", { class: "error" }, cluster.problem) : "",
      table(["Member", "Owns", "Ready for", "Weight", "Labels", "Heartbeat"], cluster.members.map(member)),
      element("p", { class: "soft" },
        `${cluster.name} has taken ${number(free)} free instances, ${number(released)} that were given up, and ` +
        `${number(expired)} whose lease had expired.`)),
    element("article", { class: "card" },
      element("header", {}, element("h2", {}, "Owners")),
      table(["Instance", "Owner", "Should be", "Lease"], instances.slice(0, INSTANCES).map(instance)),
      more > 0 ? element("p", { class: "soft" }, `and ${number(more)} more`) : ""));
}

function cell(label, child, kind) {
  return element("td", { "data-label": label, class: kind }, child);
}

function member({ name, owned, waits, weight, labels, leaving, heartbeat_ms: heartbeat }) {
  return element("tr", {},
    cell("", leaving ? element("span", {}, `${name} `, chip("warn", "leaving")) : name),
    cell("owns", number(owned)),
    cell("ready for", number(waits)),
    cell("weight", number(weight)),
    cell("labels", labels.join(", ")),
    cell("heartbeat", ago(heartbeat), "time"));
}

function instance({ instance: name, owner, target, lease_ms: lease }) {
  return element("tr", {},
    cell("", name),
    cell("owner", owner ?? chip("bad", "none")),
    cell("should be", owner === target ? "" : chip("warn", target ?? "none may")),
    cell("lease renewed", lease === undefined ? "" : ago(lease), "time"));
}

function ago(milliseconds) {
  return `${(milliseconds / 1000).toFixed(1)} s ago`;
}
