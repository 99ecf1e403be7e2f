#!/usr/bin/env bash
# Holds the dashboard to Grafana's own model of dashboards, which target/tools/grafana gets from its SDK; fast when it is
# there.
set -euo pipefail
source "$(dirname "$0")/common.sh"

sdk=1769699998!10.1.0
yaml=6.0.3
if [[ ! -d $tools/grafana/grafana_foundation_sdk-$sdk.dist-info || ! -d $tools/grafana/pyyaml-$yaml.dist-info ]]; then
    say "installing Grafana's SDK with pip"
    python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --only-binary :all: \
        --target "$work/grafana" "grafana-foundation-sdk==$sdk" "pyyaml==$yaml"
    rm -rf "$tools/grafana"
    mv "$work/grafana" "$tools/grafana"
fi
cd "$root"
PYTHONPATH="$tools/grafana" python tests/tools/dashboard.py
