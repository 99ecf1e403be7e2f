"""Reads OpenMetrics with the parser of Prometheus' own Python client, which refuses what the standard forbids, and prints
the families as JSON."""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

families = []
for family in text_string_to_metric_families(sys.stdin.read()):
    samples = []
    for sample in family.samples:
        exemplar = sample.exemplar
        samples.append({
            "name": sample.name,
            "labels": sample.labels,
            "value": sample.value,
            "exemplar": exemplar and {
                "labels": exemplar.labels,
                "value": exemplar.value,
                "time": exemplar.timestamp and float(exemplar.timestamp),
            },
        })
    families.append({
        "name": family.name,
        "kind": family.type,
        "unit": family.unit,
        "help": family.documentation,
        "samples": samples,
    })
json.dump(families, sys.stdout)
