"""Holds deploy/grafana to Grafana's model: no key that it does not know, no panel on another, no other datasource."""

import json
import pathlib
import sys

import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

WIDTH = 24
# What Grafana's documentation lists for files that it is provisioned with, as far as it is used here.
DATASOURCE = {"name", "uid", "type", "access", "url", "isDefault", "jsonData"}
PROVIDER = {"name", "type", "allowUiUpdates", "options"}

faults = []


def lost(ours, known, where="dashboard"):
    """What the model has not kept."""
    if isinstance(ours, dict) and isinstance(known, dict):
        for key, value in ours.items():
            if key not in known:
                faults.append(f"{where}: Grafana does not know {key}")
            else:
                lost(value, known[key], f"{where}.{key}")
    elif isinstance(ours, list) and isinstance(known, list) and len(ours) == len(known):
        for number, (value, kept) in enumerate(zip(ours, known)):
            lost(value, kept, f"{where}[{number}]")
    elif ours != known:
        faults.append(f"{where}: Grafana takes {ours!r} for {known!r}")


def places(panel):
    at = panel["gridPos"]
    return {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}


def check_dashboard(path):
    dashboard = json.loads(path.read_text())
    plugins.register_default_plugins()
    lost(dashboard, json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder)))
    if dashboard["uid"] != "pontoon" or dashboard["templating"]["list"][0]["name"] != "DS_PROMETHEUS":
        faults.append("links to the dashboard need its uid, and its panels the variable of the datasource")
    taken, ids = set(), set()
    for panel in dashboard["panels"]:
        title = panel["title"]
        if panel["id"] in ids or taken & places(panel) or any(x >= WIDTH for x, _ in places(panel)):
            faults.append(f"{title}: its id or its place is taken, or it reaches over the edge")
        ids.add(panel["id"])
        taken |= places(panel)
        if panel["type"] == "row":
            continue
        if not panel.get("description"):
            faults.append(f"{title}: it has no description")
        for asks in [panel, *panel["targets"]]:
            if asks["datasource"] != {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}:
                faults.append(f"{title}: it asks another datasource")
    return len(ids)


def check_provisioning(folder):
    for name, key, known in [("datasources", "datasources", DATASOURCE), ("dashboards", "providers", PROVIDER)]:
        for path in (folder / name).glob("*.yaml"):
            file = yaml.safe_load(path.read_text())
            if set(file) != {"apiVersion", key} or file["apiVersion"] != 1:
                faults.append(f"{path}: it has apiVersion 1 and {key}")
            for entry in file.get(key, []):
                faults.extend(f"{path}: Grafana does not know {word}" for word in set(entry) - known)


panels = check_dashboard(pathlib.Path("deploy/grafana/pontoon.json"))
check_provisioning(pathlib.Path("deploy/grafana/provisioning"))
for fault in faults:
    print(fault, file=sys.stderr)
if faults:
    sys.exit(1)
print(f"{panels} panels and rows, all as Grafana knows them")
