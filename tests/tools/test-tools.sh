#!/usr/bin/env bash
# Puts what the tests need beside the current nats-server into target/tools; fast when it is there:
#   nats-server-2.9   an old server, which PONTOON_NATS_SERVER_OLD may name instead
#   promtool          checks our metrics and alerts, PONTOON_PROMTOOL may name it instead
#   prometheus        scrapes us and fires the alerts, PONTOON_PROMETHEUS may name it instead
#   libfaketime.so.1  gives a daemon another time of day, PONTOON_FAKETIME may name it instead
#   lua5.3            runs the script for Stream Avatars, PONTOON_LUA may name it instead; lua/ where it is
#   chromium          opens the page; from the system, PONTOON_CHROMIUM may name another
#   strace            has system calls of the daemon fail; from the system, PONTOON_STRACE may name another
#   asyncapi/         the parser of AsyncAPI, with npm; cloudevents/ the SDK of CloudEvents
#   python/           nats-py and prometheus-client, for PYTHONPATH
#   interop/          the reference Socket.IO server, see interop.sh; node/ where there is no other
# Those from nats-server-2.9 to lua5.3 come from Debian. Without it, PONTOON_WITHOUT_DEBIAN=1 continues without them.
set -euo pipefail
"$(dirname "$0")/nats-server.sh"
"$(dirname "$0")/interop.sh"
source "$(dirname "$0")/common.sh"
source "$(dirname "$0")/node.sh"

npm_packages "$root/tests/e2e/asyncapi" "$tools/asyncapi" "the parser of AsyncAPI"
npm_packages "$root/tests/e2e/cloudevents" "$tools/cloudevents" "the SDK of CloudEvents"

missing() {
    say "$1 could not be had; name one in $2, or set PONTOON_WITHOUT_DEBIAN=1 to continue without it"
    [[ -n ${PONTOON_WITHOUT_DEBIAN:-} ]]
}

if [[ -n ${PONTOON_NATS_SERVER_OLD:-} ]]; then
    "$PONTOON_NATS_SERVER_OLD" --version >/dev/null
elif ! "$tools/nats-server-2.9" --version 2>/dev/null | grep -q 'v2\.9\.\|v\?2\.9\.'; then
    if from_debian nats-server '2.9.*' usr/sbin/nats-server "$work/nats-server-2.9"; then
        "$work/nats-server-2.9" --version >&2
        mv "$work/nats-server-2.9" "$tools/nats-server-2.9"
    else
        missing "nats-server 2.9" PONTOON_NATS_SERVER_OLD
    fi
fi

# from_prometheus PROGRAM VARIABLE: one of the two programs of Debian's package, which is downloaded once.
from_prometheus() {
    local program=$1 variable=$2
    if [[ -n ${!variable:-} ]]; then
        "${!variable}" --version >/dev/null
    elif ! "$tools/$program" --version >/dev/null 2>&1; then
        if cp "$work/unpacked-prometheus/usr/bin/$program" "$work/$program" 2>/dev/null ||
            from_debian prometheus '*' "usr/bin/$program" "$work/$program"; then
            "$work/$program" --version >/dev/null
            mv "$work/$program" "$tools/$program"
        else
            missing "$program" "$variable"
        fi
    fi
}

from_prometheus promtool PONTOON_PROMTOOL
from_prometheus prometheus PONTOON_PROMETHEUS

# fetch_faketime: the library, which stands in a folder that is named after the machine.
fetch_faketime() {
    local host
    host=$(dpkg-architecture -q DEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
    from_debian libfaketime '*' "usr/lib/$host/faketime/libfaketime.so.1" "$work/libfaketime.so.1"
}

if [[ -n ${PONTOON_FAKETIME:-} ]]; then
    [[ -f $PONTOON_FAKETIME ]]
elif [[ ! -f $tools/libfaketime.so.1 ]]; then
    if fetch_faketime; then
        mv "$work/libfaketime.so.1" "$tools/libfaketime.so.1"
    else
        missing libfaketime PONTOON_FAKETIME
    fi
fi

# fetch_lua: the interpreter, with the library for editing lines where the system has none.
fetch_lua() {
    local host package place
    mkdir "$work/lua"
    from_debian lua5.3 '*' usr/bin/lua5.3 "$work/lua/lua5.3" || return 1
    if ldd "$work/lua/lua5.3" | grep -q 'libreadline.*not found'; then
        host=$(dpkg-architecture -q DEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
        # Its name and place differ from one Debian to the next.
        for package in libreadline8 libreadline8t64; do
            for place in lib usr/lib; do
                [[ -f $work/lua/libreadline.so.8 ]] ||
                    from_debian "$package" '*' "$place/$host/libreadline.so.8" "$work/lua/libreadline.so.8" || true
            done
        done
    fi
    cat >"$work/run-lua" <<'SCRIPT'
#!/bin/sh
lua=$(dirname "$0")/lua
LD_LIBRARY_PATH=$lua${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$lua/lua5.3" "$@"
SCRIPT
    chmod 755 "$work/run-lua"
    LD_LIBRARY_PATH=$work/lua "$work/lua/lua5.3" -v >&2
}

if [[ -n ${PONTOON_LUA:-} ]]; then
    "$PONTOON_LUA" -v >&2
elif ! "$tools/lua5.3" -v >/dev/null 2>&1; then
    if fetch_lua; then
        rm -rf "$tools/lua"
        mv "$work/lua" "$tools/lua"
        mv "$work/run-lua" "$tools/lua5.3"
    else
        missing "lua5.3" PONTOON_LUA
    fi
fi

# installed PROGRAM VARIABLE: those that need libraries are installed as packages, where one may.
installed() {
    local program=$1 variable=$2
    if [[ -n ${!variable:-} ]]; then
        "${!variable}" --version >&2
    elif ! command -v "$program" >/dev/null; then
        say "installing $program with apt-get"
        if ! { [[ $(id -u) == 0 ]] && apt-get -qq update &&
            DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$program" >/dev/null; }; then
            missing "$program" "$variable"
        fi
    fi
}

installed chromium PONTOON_CHROMIUM
installed strace PONTOON_STRACE

nats_py=2.16.0 prometheus_client=0.26.0
if [[ ! -d $tools/python/nats_py-$nats_py.dist-info ||
    ! -d $tools/python/prometheus_client-$prometheus_client.dist-info ]]; then
    say "installing nats-py $nats_py and prometheus-client $prometheus_client with pip"
    python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --target "$work/python" "nats-py==$nats_py" "prometheus-client==$prometheus_client"
    rm -rf "$tools/python"
    mv "$work/python" "$tools/python"
fi
