#!/usr/bin/env bash
# Holds all dependencies to deny.toml: always in short, and with cargo-deny where there is a recent one.
set -euo pipefail
cd "$(dirname "$0")/../.."
"${PYTHON:-python3}" tests/tools/licences.py
if cargo-deny --version 2>/dev/null | grep -qE '^cargo-deny (0\.(1[6-9]|[2-9][0-9])|[1-9])'; then
    # The second Socket.IO engine may bring what is banned.
    cargo-deny --locked --workspace --exclude pontoon-rust-socketio check bans
    cargo-deny --locked --workspace --all-features check licenses sources
fi
