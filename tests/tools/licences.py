"""Holds every dependency to deny.toml: its licence, its name, and where it comes from.

It checks less than cargo-deny, and needs nothing but Python and cargo.
"""

import json
import os
import re
import subprocess
import sys


ENGINE = "pontoon-rust-socketio"


def section(text, name):
    found = re.search(rf"^\[{name}\]\n(.*?)(?=^\[|\Z)", text, re.M | re.S)
    return re.sub(r"^\s*#.*$", "", found[1], flags=re.M)


def allows(expression, allowed):
    """Whether an SPDX expression is satisfied by the allowed licences."""
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression.replace(" WITH ", "_WITH_"))

    def alternatives(i):
        value, i = both(i)
        while i < len(tokens) and tokens[i] in ("OR", "/"):
            other, i = both(i + 1)
            value = value or other
        return value, i

    def both(i):
        value, i = one(i)
        while i < len(tokens) and tokens[i] == "AND":
            other, i = one(i + 1)
            value = value and other
        return value, i

    def one(i):
        if tokens[i] == "(":
            value, i = alternatives(i + 1)
            return value, i + 1
        return tokens[i].replace("_WITH_", " WITH ") in allowed, i + 1

    return alternatives(0)[0]


def main():
    rules = open("deny.toml", encoding="utf-8").read()
    allowed = set(re.findall(r'"([^"]+)"', re.search(r"allow = \[(.*?)\]", section(rules, "licenses"), re.S)[1]))
    banned = set(re.findall(r'name = "([^"]+)"', section(rules, "bans")))

    cargo = os.environ.get("CARGO", "cargo")
    # What is built for this machine; the rest of Cargo.lock would be downloaded only to be read.
    host = re.search(r"^host: (.*)$", subprocess.check_output(["rustc", "-vV"], text=True), re.M)[1]

    command = [cargo, "metadata", "--locked", "--format-version", "1", "--filter-platform", host, "--all-features"]
    packages = json.loads(subprocess.check_output(command))["packages"]
    # The second Socket.IO engine may bring what is banned.
    command = [cargo, "tree", "--locked", "--workspace", "--exclude", ENGINE, "--prefix", "none", "--format", "{p}"]
    names = {line.split(" ")[0] for line in subprocess.check_output(command, text=True).splitlines()}
    registries = {package["source"] for package in packages if (package["source"] or "").startswith("registry+")}

    problems = []
    for package in packages:
        name, licence, source = f"{package['name']} {package['version']}", package["license"], package["source"]
        if not licence or not allows(licence, allowed):
            problems.append(f"{name}: the licence {licence} is not allowed")
        if package["name"] in banned and package["name"] in names:
            problems.append(f"{name} is banned")
        if source is not None and source not in registries:
            problems.append(f"{name} comes from {source}, not from a registry")
    if len(registries) > 1:
        problems.append(f"there is more than one registry: {', '.join(sorted(registries))}")
    if problems:
        sys.exit("\n".join([*problems, "deny.toml lists the reasons"]))
    print(f"{len(packages)} packages: licences, names and sources are as deny.toml has them")


main()
