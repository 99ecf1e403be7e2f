"""Reads `cargo metadata`, and writes the crates that are linked into a package as a CycloneDX 1.5 document."""

import json
import sys


def linked(nodes, root):
    """The packages that `root` needs to run, by the graph of normal dependencies."""
    seen, rest = set(), [root]
    while rest:
        package = rest.pop()
        if package in seen:
            continue
        seen.add(package)
        for dependency in nodes[package]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                rest.append(dependency["pkg"])
    return seen


def component(package):
    name, version = package["name"], package["version"]
    entry = {"type": "library", "name": name, "version": version, "purl": f"pkg:cargo/{name}@{version}"}
    if package["license"]:
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    return entry


def main():
    metadata = json.load(sys.stdin)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = next(id for id in metadata["workspace_members"] if packages[id]["name"] == sys.argv[1])
    crates = sorted(linked(nodes, root) - {root}, key=lambda id: (packages[id]["name"], packages[id]["version"]))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**component(packages[root]), "type": "application"}},
        "components": [component(packages[id]) for id in crates],
    }
    json.dump(document, sys.stdout, indent=1)
    print()


main()
