#!/usr/bin/env bash
# Puts the reference Socket.IO server into target/tools/interop, as tests/e2e/interop/package-lock.json has it; fast when it
# is there. See node.sh for what it runs on.
set -euo pipefail
source "$(dirname "$0")/common.sh"
source "$(dirname "$0")/node.sh"

npm_packages "$root/tests/e2e/interop" "$tools/interop" "the reference Socket.IO server"
