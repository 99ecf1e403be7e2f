// The page: which view is shown, and the stream that feeds it.

import * as cluster from "./cluster.js";
import * as command from "./command.js";
import * as events from "./events.js";
import * as instances from "./instances.js";
import * as wire from "./wire.js";
import { follow } from "./stream.js";

const section = (name) => document.getElementById(name);
const VIEWS = ["instances", "events", "wire", "cluster", "command"];

function navigate() {
  const wanted = location.hash.slice(1);
  const shown = VIEWS.includes(wanted) ? wanted : VIEWS[0];
  for (const name of VIEWS) {
    section(name).hidden = name !== shown;
    const link = document.querySelector(`nav a[href="#${name}"]`);
    if (name === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
}

let hasCommands = false;

function showStatus(status) {
  section("version").textContent = status.version;
  instances.show(section("instances"), status.instances);
  wire.instances(section("wire"), instances.names());
  document.querySelector("nav a[href='#cluster']").hidden = !status.cluster;
  if (status.cluster) cluster.show(section("cluster"), status.cluster);
  if (!status.commands) return;
  if (hasCommands) {
    command.instances(section("command"), instances.names());
  } else {
    hasCommands = true;
    document.querySelector("nav a[href='#command']").hidden = false;
    command.start(section("command"));
  }
}

function handle(name, data) {
  if (name === "status") showStatus(data);
  else if (name === "event") events.add(section("events"), data);
  else if (name === "lost") events.lost(section("events"), data.count);
}

function showConnection(live, text) {
  const connection = section("connection");
  connection.textContent = text;
  connection.classList.toggle("bad", !live);
}

addEventListener("hashchange", navigate);
navigate();
events.start(section("events"));
wire.start(section("wire"));
follow("live", undefined, handle, showConnection);
