#!/usr/bin/env bash
# docker.sh BINARY: makes the image from a static binary, by the last stage of deploy/Dockerfile, and runs it with a
# Docker engine beside NATS and simulated services: health, events, a read-only root, stop, and start. Then the same with
# deploy/compose.yaml, see compose.sh. No image is pulled. If no engine runs, one is started for as long as this takes, in a
# network of its own, for which one must be root.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"
work=$(cd "$work" && pwd -P)
binary=$1

if ! command -v dockerd >/dev/null && [[ ${PONTOON_INSTALL:-} == 1 && $(id -u) == 0 ]]; then
    apt-get update -q >"$work/apt" && apt-get install -q -y --no-install-recommends docker.io iproute2 >>"$work/apt" 2>&1 ||
        { tail -n 5 "$work/apt" >&2; }
fi
# The Compose that reads today's files is in Debian 13.
if ! "$tools/docker-compose" version >/dev/null 2>&1 && from_debian docker-compose '2.*' \
    usr/libexec/docker/cli-plugins/docker-compose "$work/docker-compose" trixie; then
    "$work/docker-compose" version >&2
    mv "$work/docker-compose" "$tools/docker-compose"
fi
engine=
simulators=
finish() {
    docker rm --force pontoon-test pontoon-test-nats >/dev/null 2>&1 || true
    for process in $simulators $engine; do
        kill "$process" 2>/dev/null && wait "$process" || true
    done
    # What the engine leaves mounted.
    awk -v folder="$work/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount --lazy
    rm -rf "$work"
}
if ! docker info >/dev/null 2>&1; then
    if ! command -v dockerd >/dev/null || [[ $(id -u) != 0 ]]; then
        say "NOT RUN: there is no Docker engine, and none can be started (Debian: docker.io, as root)"
        exit 0
    fi
    # In a separate network the ports and rules of the engine cannot collide with those of the host.
    if [[ -z ${PONTOON_OWN_NETWORK:-} ]] && unshare --net true 2>/dev/null; then
        rm -rf "$work"
        PONTOON_OWN_NETWORK=1 exec unshare --net bash -c 'ip link set lo up && exec "$0" "$@"' "$0" "$@"
    fi
    export DOCKER_HOST=unix://$work/docker.sock
    dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" \
        --storage-driver vfs >"$work/engine" 2>&1 &
    engine=$!
    trap finish EXIT
    for _ in $(seq 300); do
        docker info >/dev/null 2>&1 && break
        kill -0 "$engine" 2>/dev/null || break
        sleep 0.2
    done
    if ! docker info >/dev/null 2>&1; then
        say "NOT RUN: the Docker engine does not start here:"
        tail -n 3 "$work/engine" >&2
        exit 0
    fi
fi
trap finish EXIT

fail() {
    say "$*"
    docker logs pontoon-test >&2 || true
    exit 1
}

# image NAME: makes it from the folder of that name in $work.
image() {
    DOCKER_BUILDKIT=0 docker build --quiet --tag "pontoon-$1:test" "$work/$1" >"$work/build" 2>&1 ||
        { cat "$work/build" >&2; exit 1; }
}

# stage NAME: the stage of deploy/Dockerfile, with what it copies from the folder of that name in $work.
stage() {
    sed -n "/^FROM scratch AS $1\$/,/^\$/p" deploy/Dockerfile |
        sed -e 's|^COPY --from=daemon /etc/ssl/certs/|COPY |' -e 's|^COPY --from=[a-z]* /image /|COPY image /|' \
            >"$work/$1/Dockerfile"
    image "$1"
}

# put PROGRAM FOLDER: copies it with the libraries that it needs.
put() {
    install -D "$1" "$2/usr/bin/$(basename "$1")"
    { ldd "$1" 2>/dev/null || true; } | { grep -o '/[^ ]*' || true; } | while read -r library; do install -D "$library" "$2$library"; done
}

demo=${CARGO_TARGET_DIR:-target}/debug/pontoon-demo
mkdir "$work/pontoon" "$work/simulators" "$work/nats"
put "$binary" "$work/pontoon/image"
cp /etc/ssl/certs/ca-certificates.crt "$work/pontoon/"
stage pontoon
put "$demo" "$work/simulators/image"
stage simulators
cp target/tools/nats-server "$work/nats/"
printf 'FROM scratch\nCOPY nats-server /\nENTRYPOINT ["/nats-server"]\n' >"$work/nats/Dockerfile"
image nats
prometheus=${PONTOON_PROMETHEUS:-target/tools/prometheus}
if [[ -x $prometheus ]]; then
    mkdir "$work/prometheus"
    put "$prometheus" "$work/prometheus/image"
    printf 'FROM scratch\nCOPY image /\nENTRYPOINT ["/usr/bin/prometheus"]\n' >"$work/prometheus/Dockerfile"
    image prometheus
fi

read -r nats admin < <(python -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*[socket.getsockname()[1] for socket in sockets])')
"$demo" simulators sub0=127.0.0.1:0 >"$work/services" &
simulators=$!
until_true "the simulators" grep -q ' at ' "$work/services"
sub0=$(sed -n 's/.* at 127.0.0.1:\([0-9]*\).*/\1/p' "$work/services" | head -n 1)
cat >"$work/pontoon.toml" <<TOML
[connectors.shop]
type = "sub0"
url = "ws://127.0.0.1:$sub0/ws"
TOML
chmod 0755 "$work"
chmod 0644 "$work/pontoon.toml"

docker run --detach --name pontoon-test-nats --network host --read-only --tmpfs /data pontoon-nats:test \
    --jetstream --store_dir /data --addr 127.0.0.1 --port "$nats" >/dev/null
# As compose.yaml runs it.
docker run --detach --name pontoon-test --network host --read-only --cap-drop ALL --security-opt no-new-privileges:true \
    --volume "$work/pontoon.toml:/etc/pontoon/pontoon.toml:ro" --env "PONTOON_NATS__URL=nats://127.0.0.1:$nats" \
    --env "PONTOON_ADMIN__LISTEN=127.0.0.1:$admin" --health-interval 1s pontoon-pontoon:test >/dev/null
is() {
    [[ $(docker inspect --format "$1" pontoon-test) == "$2" ]]
}
until_true "healthy" is '{{.State.Health.Status}}' healthy
is '{{.Config.User}}' 65532:65532 || fail "the image does not set its user"
docker exec pontoon-test /usr/bin/pontoon tail --last 1 --count 1 | grep -q . || fail "no event"
docker stop --time 30 pontoon-test >/dev/null
is '{{.State.ExitCode}}' 0 || fail "it did not drain"
docker start pontoon-test >/dev/null
until_true "healthy again" is '{{.State.Health.Status}}' healthy
# Without NATS it runs on, and its strict health fails.
docker kill pontoon-test-nats >/dev/null
until_true "strict health fails without NATS" \
    bash -c '! docker exec pontoon-test /usr/bin/pontoon health --strict >/dev/null'
docker start pontoon-test-nats >/dev/null
until_true "strict health after NATS is back" docker exec pontoon-test /usr/bin/pontoon health --strict >/dev/null
docker stop --time 30 pontoon-test >/dev/null
is '{{.State.ExitCode}}' 0 || fail "it did not drain"
say "the image ran: healthy, events, read-only, stopped with 0, started again, NATS away and back"

if "$tools/docker-compose" version >/dev/null 2>&1; then
    ENGINE_IS_OURS=$engine tests/tools/compose.sh
else
    say "NOT RUN: deploy/compose.yaml, for which there is no docker-compose"
fi
