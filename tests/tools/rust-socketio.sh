#!/usr/bin/env bash
# Tests the program with the second Socket.IO engine, connectors/rust_socketio. It needs OpenSSL's headers
# and pkg-config; where they are missing, a static OpenSSL of Debian's is put into target/tools/openssl.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"
cargo=${CARGO:-cargo}

source "$(dirname "$0")/openssl.sh"

# The contender of the benchmark that stands on the same crate is checked with it.
package=(--locked --package pontoon-rust-socketio --package pontoon-bench --features pontoon-bench/rust-socketio)
"$cargo" clippy "${package[@]}" --all-targets -- -D warnings
"$cargo" test "${package[@]}" --no-fail-fast
