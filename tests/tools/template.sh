#!/usr/bin/env bash
# Makes a connector from connectors/template in a temporary folder, as connectors/README.md describes it, and tests it.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
cargo=${CARGO:-cargo}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

connectors/template/new.sh parrot "$work/parrot"
cd "$work/parrot"
if grep -rn 'Board\|pontoon[-_]board\|"board"\]' Cargo.toml config.toml src; then
    echo "this name of the template is left in the copy" >&2
    exit 1
fi
# With features and profile of tests/outside, so that what the two depend on is built once.
sed -i "s#^\[dev-dependencies\]#&\npontoon-testkit = { path = \"$root/tests/kit\" }#" Cargo.toml
sed -n '/^\[profile\.dev\]/,$p' "$root/tests/outside/Cargo.toml" >>Cargo.toml
"$cargo" test --offline --quiet --target-dir "$target"
