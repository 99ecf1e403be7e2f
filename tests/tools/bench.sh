#!/usr/bin/env bash
# Measures Pontoon beside other solutions; arguments are those of pontoon-bench. A contender whose runtime or packages
# cannot be had is left out. BENCH_PROFILE names the profile of all that is built: release, as shipped, unless it is set.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"
cargo=${CARGO:-cargo}
profile=${BENCH_PROFILE:-release}
websockets=17.4
nats_py=2.16.0
"$root/tests/tools/nats-server.sh"

# node_packages: the packages of the Node scripts, as their lock has them. Prints the node.
node_packages() (
    source "$root/tests/tools/node.sh" &&
        npm_packages "$root/tests/bench/contenders/node" "$tools/bench-node" "the packages of the Node scripts" &&
        printf '%s\n' "$node"
)

# python_packages: the packages of the Python script. Prints the interpreter itself, not what starts it.
python_packages() (
    installed=$tools/bench-python
    if [[ ! -d $installed/websockets-$websockets.dist-info || ! -d $installed/nats_py-$nats_py.dist-info ]]; then
        say "installing the packages of the Python script with pip"
        python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
            --target "$work/bench-python" "websockets==$websockets" "nats-py==$nats_py" >&2 &&
            rm -rf "$installed" &&
            mv "$work/bench-python" "$installed" || exit 1
    fi
    python -c 'import sys; print(sys.executable)'
)

# Without OpenSSL the crate rust_socketio cannot be built.
features=()
if source "$root/tests/tools/openssl.sh" && [[ -z ${OPENSSL_DIR:-} || -d $OPENSSL_DIR/include ]]; then
    features=(--features rust-socketio)
else
    say "going on without OpenSSL"
fi

PONTOON_BENCH_NODE=$(node_packages) || say "going on without Node.js"
PONTOON_BENCH_PYTHON=$(python_packages) || say "going on without Python"
export PONTOON_BENCH_NODE PONTOON_BENCH_PYTHON
export NODE_PATH=$tools/bench-node/node_modules PYTHONPATH=$tools/bench-python

# Alone, so that it has the features that it is shipped with, and no others.
"$cargo" build --quiet --locked --profile "$profile" --package pontoon --bin pontoon
"$cargo" build --quiet --locked --profile "$profile" --package pontoon-bench-connector
"$cargo" build --quiet --locked --profile "$profile" --package pontoon-bench --bins "${features[@]}"
folder=$profile
[[ $profile == dev ]] && folder=debug
# Thousands of connections at a time.
ulimit -n "$(ulimit -Hn)"
"${CARGO_TARGET_DIR:-target}/$folder/pontoon-bench" "$@"
