#!/usr/bin/env bash
# Checks that the crate graph is as the architecture wants it.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo=${CARGO:-cargo}
bad=0

# dependencies PACKAGE: what it is built from for users, one name a line.
dependencies() {
    "$cargo" tree --locked --package "$1" --edges normal,build --prefix none --format '{p}' | cut -d' ' -f1 | sort -u
}

# without PACKAGE REASON NAME…: none of these is among its dependencies.
without() {
    local package=$1 reason=$2 all name
    shift 2
    all=$(dependencies "$package")
    for name in "$@"; do
        if grep -qx -- "$name" <<<"$all"; then
            echo "$package depends on $name: $reason" >&2
            "$cargo" tree --locked --package "$package" --edges normal,build --invert "$name" >&2 || true
            bad=1
        fi
    done
}

connectors=0
for manifest in connectors/*/Cargo.toml; do
    package=$(sed -n 's/^name = "\(.*\)"/\1/p' "$manifest" | head -1)
    # An engine, and a connector that is its own program.
    [[ $package == pontoon-rust-socketio || $package == pontoon-board ]] && continue
    without "$package" "a connector has no socket and no runtime; the daemon has them" \
        tokio tokio-util async-std smol mio socket2 async-nats tungstenite tokio-tungstenite hyper reqwest \
        rustls tokio-rustls pontoon
    connectors=$((connectors + 1))
done

without pontoon "TLS is rustls with ring; two of them would be twice as much to keep up to date" \
    openssl openssl-sys native-tls aws-lc-rs aws-lc-sys

[[ $bad == 0 ]] && echo "$connectors crates in connectors/ without sockets, and no second TLS library"
exit "$bad"
