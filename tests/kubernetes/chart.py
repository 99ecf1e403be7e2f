"""The Helm chart: what it renders, what values it refuses, and whether every value is described."""

import json
import pathlib
import tempfile

import yaml

from run import attempt, run

CHART = pathlib.Path(__file__).parents[2] / "deploy/helm/pontoon"
BAD_VALUES = yaml.safe_load(pathlib.Path(__file__).with_name("bad-values.yaml").read_text())


def rendered(helm):
    """What the chart comes to with its defaults and with each of the files in ci/, and that `helm lint` is content."""
    version = run(helm, "version", "--template", "{{ .Version }}")
    for values in [None, *sorted(CHART.glob("ci/*.yaml"))]:
        given = ["--values", values] if values else []
        run(helm, "lint", "--strict", CHART, *given)
        name = f"chart with {values.name if values else 'defaults'}, Helm {version}"
        yield name, run(helm, "template", "demo", CHART, "--kube-version", "1.29.0", *given)


def refusals(helm):
    """Yields which bad values are taken, or refused for something else."""
    for case in BAD_VALUES:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(case["values"], file)
            file.flush()
            code, _, said = attempt(helm, "template", "demo", CHART, "--values", file.name)
        path = case["at"]
        # As Helm 3 names a place, and as Helm 4 does.
        places = [f"- {path or '(root)'}: ", f"at '{'/' * bool(path)}{path.replace('.', '/')}': "]
        if code == 0:
            yield f"{helm}: these values are taken: {case['values']}"
        elif not any(place in said for place in places):
            yield f"{helm}: not refused for {path}: {case['values']}\n{said}"


def undocumented():
    """Yields values that the README does not name, and where the schema and values.yaml differ."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    readme = (CHART / "README.md").read_text()
    described = set(leaves_of_schema(schema)) - {"global"}
    there = set(leaves_of_values(yaml.safe_load((CHART / "values.yaml").read_text()), described))
    yield from (f"values.yaml and values.schema.json differ in {name}" for name in described ^ there)
    yield from (f"README.md of the chart does not name {name}" for name in there if f"`{name}`" not in readme)


def leaves_of_schema(schema, prefix=""):
    for name, sub in schema["properties"].items():
        if "properties" in sub and name != "resources":
            yield from leaves_of_schema(sub, f"{prefix}{name}.")
        else:
            yield prefix + name


def leaves_of_values(values, described, prefix=""):
    for name, value in values.items():
        if isinstance(value, dict) and prefix + name not in described:
            yield from leaves_of_values(value, described, f"{prefix}{name}.")
        else:
            yield prefix + name
