#!/usr/bin/env bash
# Runs the static daemon in an empty root. The profile is a quicker one, whose binary is larger; PONTOON_PROFILE=release
# takes the image's.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"
cargo=${CARGO:-cargo}
export PONTOON_PROFILE=${PONTOON_PROFILE:-quick}
# The quick profile optimizes little and links without LTO.
mebibytes=29
[[ $PONTOON_PROFILE == release ]] && mebibytes=22

binary=$(tests/tools/static-build.sh)
[[ $(stat -c %s "$binary") -le $((mebibytes * 1024 * 1024)) ]] || { say "it is larger than $mebibytes MiB"; exit 1; }

"$cargo" build --quiet --locked --package pontoon-demo --bins
PONTOON_STATIC=$binary "$cargo" test --locked --package pontoon --test image
