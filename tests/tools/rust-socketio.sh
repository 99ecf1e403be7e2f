#!/usr/bin/env bash
# Tests the program with the second Socket.IO engine, connectors/rust_socketio. It needs OpenSSL's headers
# and pkg-config; where they are missing, a static OpenSSL of Debian's is put into target/tools/openssl.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"
cargo=${CARGO:-cargo}

# static_openssl TARGET: headers and static libraries, so that nothing of it is needed when the tests run.
static_openssl() {
    local target=$1 host
    from_debian libssl-dev '*' usr/include/openssl/ssl.h "$work/ssl.h"
    host=$(dpkg-architecture -q DEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
    mkdir "$work/openssl"
    mv "$work/unpacked-libssl-dev/usr/include" "$work/openssl/include"
    # What Debian keeps apart for each architecture.
    cp "$work/openssl/include/$host/openssl/"* "$work/openssl/include/openssl/"
    mv "$work/unpacked-libssl-dev/usr/lib/$host" "$work/openssl/lib"
    mv "$work/openssl" "$target"
}

if [[ -z ${OPENSSL_DIR:-} ]] && ! pkg-config --exists openssl 2>/dev/null; then
    [[ -d $tools/openssl ]] || static_openssl "$tools/openssl"
    export OPENSSL_DIR=$tools/openssl OPENSSL_STATIC=1
fi

package=(--locked --package pontoon-rust-socketio)
"$cargo" clippy "${package[@]}" --all-targets -- -D warnings
"$cargo" test "${package[@]}" --no-fail-fast
