// The instances with their links: phase, age, rates, backlog, last error, next try.

import { bytes, chip, clock, duration, element, number, table } from "./dom.js";

/** How many links of an instance are shown; those that are not ready come first. */
const LINKS = 100;
/** How many values a sparkline has, one a second. */
const POINTS = 120;

const history = new Map();
let shown = [];

/** Shows this status. */
export function show(section, instances) {
  for (const instance of instances) {
    const values = history.get(instance.instance) ?? [0];
    values.push(instance.rates.events_published);
    history.set(instance.instance, values.slice(-POINTS));
  }
  shown = instances;
  section.replaceChildren(...instances.map(card));
  if (!instances.length) section.append(element("p", {}, "No instance runs."));
}

/** The instances that were shown last. */
export function names() {
  return shown.map((instance) => instance.instance);
}

function card(instance) {
  const { bus, counts, rates, commands } = instance;
  const figures = [
    ["events/s", rates.events_published.toFixed(1)],
    ["events", number(counts.events_published)],
    ["commands", number(counts.commands)],
    ["backlog", `${number(instance.unconfirmed_events)} (${bytes(instance.unconfirmed_bytes)})`],
    ["dropped", number(counts.events_dropped)],
    ["service errors", number(counts.service_errors)],
  ];
  const problems = [bus.detail, commands.detail].filter(Boolean);
  return element("article", { class: "card" },
    element("header", {},
      element("h2", {}, instance.instance),
      element("span", { class: "soft" }, instance.type),
      nats(instance)),
    ...problems.map((text) => element("p", { class: "error" }, text)),
    element("div", { class: "figures" },
      element("dl", {}, ...figures.map(([name, value]) =>
        element("div", {}, element("dt", {}, name), element("dd", {}, value)))),
      sparkline(instance)),
    links(instance.links));
}

function nats({ running, bus }) {
  if (!running) return chip("bad", "restarting");
  if (bus.fenced) return chip("bad", "fenced");
  if (bus.publishing) return chip("good", "publishing");
  return chip("bad", bus.connected ? "not publishing" : "no NATS");
}

const KINDS = { ready: "good", connecting: "warn", waiting: "warn" };

function links(all) {
  const order = (link) => (link.phase === "ready" ? 1 : 0);
  const rows = [...all].sort((a, b) => order(a) - order(b)).slice(0, LINKS).map(link);
  const more = all.length - rows.length;
  return element("div", {}, table(["Link", "Phase", "For", "Next try", "Last error"], rows), more > 0 ? element("p", { class: "soft" }, `and ${number(more)} more`) : null);
}

function link({ key, phase, since, retry_at: retry, detail, last_error: last }) {
  const error = detail ?? (last && `${clock(last.at)} ${last.text}`) ?? "";
  const cell = (label, child, kind) => element("td", { "data-label": label, class: kind }, child);
  return element("tr", {},
    cell("", key),
    cell("", chip(KINDS[phase] ?? "bad", phase.replaceAll("_", " "))),
    cell("for", duration(Date.now() - new Date(since)), "time"),
    cell("next try", retry ? `in ${duration(new Date(retry) - Date.now())}` : "", "time"),
    cell(detail ? "" : "last error", error, detail ? "bad" : "soft"));
}

/** The rate of events over the last two minutes. */
function sparkline({ instance }) {
  const values = history.get(instance);
  const top = Math.max(1, ...values);
  const [width, height] = [POINTS, 24];
  const points = values.map((value, index) => {
    const x = POINTS - values.length + index;
    return `${x},${(height - 1 - (value / top) * (height - 2)).toFixed(1)}`;
  });
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  const line = document.createElementNS(namespace, "polyline");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `events per second of ${instance}, at most ${top.toFixed(1)}`);
  line.setAttribute("points", points.join(" "));
  line.setAttribute("fill", "none");
  line.setAttribute("stroke", "currentColor");
  line.setAttribute("vector-effect", "non-scaling-stroke");
  svg.append(line);
  return element("figure", { class: "spark" }, svg,
    element("figcaption", {}, `events/s, 2 min, top ${top.toFixed(top < 10 ? 1 : 0)}`));
}
