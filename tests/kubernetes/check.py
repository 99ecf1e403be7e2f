"""Checks deploy/kubernetes and deploy/helm: that they render, that the schemas take them, and that rules.py holds.

Run it with tests/tools/kubernetes.sh, which brings the programs and packages.
"""

import argparse
import copy
import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml
import yamllint.config
import yamllint.linter

import chart
import daemon
import rules
from run import run

ROOT = pathlib.Path(__file__).parents[2]
HERE = pathlib.Path(__file__).parent
# The oldest with native sidecars by default, and the newest whose schemas we have.
VERSIONS = ["1.29", kubernetes_validate.latest_version()]
PODMONITOR = jsonschema.Draft7Validator(json.loads((HERE / "podmonitor.schema.json").read_text()))
FAULTS = yaml.safe_load((HERE / "faults.yaml").read_text())
# How programs break lines is their own affair.
LINT = yamllint.config.YamlLintConfig(
    f"{{extends: {ROOT / '.yamllint.yaml'}, rules: {{line-length: disable, trailing-spaces: disable, empty-lines: disable}}}}"
)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pontoon", required=True, type=pathlib.Path)
    parser.add_argument("--kubectl", required=True)
    parser.add_argument("--helm", required=True, action="append")
    options = parser.parse_args()
    pontoon = options.pontoon.resolve()

    example = run(options.kubectl, "kustomize", ROOT / "deploy/kubernetes")
    rendered = {"deploy/kubernetes": example}
    bad = list(chart.undocumented())
    for helm in options.helm:
        rendered.update(chart.rendered(helm))
        bad += chart.refusals(helm)
    for name, text in rendered.items():
        bad += (f"{name}: line {problem.line}: {problem.message}" for problem in yamllint.linter.run(text, LINT))
        bad += (f"{name}: {fault}" for fault in judge(pontoon, parsed(text)))
    bad += blind(pontoon, parsed(example))

    if bad:
        sys.exit("\n".join(bad))
    print(f"{len(rendered)} renderings hold on Kubernetes {' and '.join(VERSIONS)}")
    print(f"{len(chart.BAD_VALUES)} bad values are refused, and {len(FAULTS)} faults noticed")


def parsed(text):
    return [document for document in yaml.safe_load_all(text) if document]


def judge(pontoon, documents):
    """Yields what is wrong with what is applied together."""
    misfits = [f"{document['kind']}: {fault}" for document in documents for fault in schema_faults(document)]
    yield from misfits
    # The rules read what has the right form.
    if not misfits:
        broken = list(rules.faults(documents))
        yield from broken
        if not broken:
            yield from daemon.check(pontoon, documents)


def schema_faults(document):
    """Yields what the schemas refuse."""
    if document["kind"] == "PodMonitor":
        yield from (error.message for error in PODMONITOR.iter_errors(document))
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            yield f"Kubernetes {version}: {error.message}"


def blind(pontoon, documents):
    """Yields the faults that these checks would let pass."""
    for fault in FAULTS:
        changed = copy.deepcopy(documents)
        kind, *path, last = fault["at"]
        places = {document["kind"]: document for document in changed}
        places["Pod"] = places["Deployment"]["spec"]["template"]["spec"]
        place = places[kind]
        for step in path:
            place = place[step]
        if "to" in fault:
            place[last] = fault["to"]
        else:
            del place[last]
        said = list(judge(pontoon, changed))
        if not any(fault["says"] in line for line in said):
            yield f"not noticed: {fault}; but {said}"


main()
