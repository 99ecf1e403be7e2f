#!/usr/bin/env bash
# Puts the reference Socket.IO server into target/tools/interop, as tests/e2e/interop/package-lock.json has it; fast when it
# is there. See node.sh for what it runs on.
set -euo pipefail
source "$(dirname "$0")/common.sh"
source "$(dirname "$0")/node.sh"

wanted="$root/tests/e2e/interop"
installed="$tools/interop"

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
