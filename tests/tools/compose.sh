#!/usr/bin/env bash
# Runs deploy/compose.yaml with the images that docker.sh has made: NATS, the simulated services, the daemon and Prometheus,
# without Grafana, of which there is no image. Health, a read-only root, events, a stop, a start and a kill.
# ENGINE_IS_OURS is set if the engine runs on this machine and for this alone.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

cat >"$work/images.yaml" <<'YAML'
services:
  nats:
    image: pontoon-nats:test
  simulators:
    image: pontoon-simulators:test
  pontoon:
    image: pontoon-pontoon:test
    healthcheck:
      interval: 1s
  prometheus:
    image: pontoon-prometheus:test
YAML
services=(nats simulators pontoon)
if docker image inspect pontoon-prometheus:test >/dev/null 2>&1; then
    services+=(prometheus)
fi
compose=("$tools/docker-compose" --file deploy/compose.yaml --file "$work/images.yaml" --project-name pontoon-test)
# pontoon ARGUMENTS...: a command in the container of the daemon.
pontoon() {
    timeout 60 "${compose[@]}" exec -T pontoon /usr/bin/pontoon "$@"
}
fail() {
    say "compose.yaml: $*"
    "${compose[@]}" logs --no-color --tail 40 >&2 || true
    exit 1
}
finish() {
    "${compose[@]}" down --volumes --timeout 1 >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

# of FORMAT [SERVICE]: a property of a container.
of() {
    docker inspect --format "$1" "$("${compose[@]}" ps --all --quiet "${2:-pontoon}")"
}
# run ARGUMENTS...: a command of Compose, whose output is shown only if it fails.
run() {
    "${compose[@]}" "$@" >"$work/output" 2>&1 || { cat "$work/output" >&2; fail "$*"; }
}
healthy() {
    [[ $(of '{{.State.Health.Status}}') == healthy ]]
}
# Every instance of compose/pontoon.toml runs and publishes, and each link that it wants is ready.
all_ready() {
    pontoon status --json 2>/dev/null | python -c '
import json, sys
instances = json.load(sys.stdin)["instances"]
ready = lambda one: one["running"] and one["bus"]["publishing"] and all(link["phase"] == "ready" for link in one["links"])
sys.exit(len(instances) != 5 or not all(map(ready, instances)))'
}
# gap NUMBER: the last of so many gaps of one instance, which the stream holds or will hold, has both ends.
gap() {
    pontoon tail '*.shop.gap.detected' --json --since 1h --count "$1" >"$work/gaps" 2>"$work/output" ||
        fail "no gap: $(cat "$work/gaps" "$work/output")"
    tail -n 1 "$work/gaps" | python -c '
import json, sys
body = json.load(sys.stdin)["body"]
sys.exit(body["reason"] != "restarted" or not body["from"] < body["to"])' || fail "not the gap: $(cat "$work/gaps")"
}

run up --detach --no-build --pull never "${services[@]}"
until_true "healthy" healthy
until_true "every instance is ready" all_ready
pontoon tail 'pontoon.event.sub0.shop.resource.>' --since 1h --count 2 >"$work/output" 2>&1 ||
    fail "no events: $(cat "$work/output")"
for service in simulators pontoon; do
    [[ $(of '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}' "$service") == 'true [ALL]' ]] ||
        fail "$service can write to its root, or has capabilities"
done
pontoon man --write /usr/bin >"$work/output" 2>&1 && fail "the root can be written to"
grep -q 'Read-only file system' "$work/output" || fail "$(cat "$work/output")"

# The daemon is stopped first, so that NATS takes what it still has. The services stay, so that no link has a gap before that.
run stop nats pontoon
[[ $(of '{{.State.ExitCode}}') == 0 ]] || fail "the daemon did not drain"
[[ ! $(of '{{.State.FinishedAt}}') > $(of '{{.State.FinishedAt}}' nats) ]] || fail "NATS was stopped before the daemon"
run start "${services[@]}"
until_true "healthy after the start" healthy
until_true "every instance is ready after the start" all_ready
# What was missed meanwhile is a gap, behind the events of before.
gap 2

if [[ -n ${ENGINE_IS_OURS:-} ]]; then
    python -c 'import urllib.request; urllib.request.urlopen("http://127.0.0.1:9464/readyz", timeout=10)' ||
        fail "port 9464 is not published"
    # By the name that compose/targets.yaml has, which the daemon must accept.
    scraped() {
        python -c '
import json, urllib.request
up = urllib.request.urlopen("http://127.0.0.1:9090/api/v1/query?query=up%7Bjob%3D%22pontoon%22%7D", timeout=10)
assert [series["value"][1] for series in json.load(up)["data"]["result"]] == ["1"]' 2>/dev/null
    }
    [[ " ${services[*]} " != *" prometheus "* ]] || until_true "Prometheus scrapes the daemon" scraped
    kill -KILL "$(of '{{.State.Pid}}')"
    restarted() {
        [[ $(of '{{.RestartCount}}') == 1 ]]
    }
    until_true "started again after a kill" restarted
    until_true "healthy after a kill" healthy
    gap 3
fi
run stop
[[ $(of '{{.State.ExitCode}}') == 0 ]] || fail "the daemon did not drain at the end"
say "compose.yaml ran with ${services[*]}: healthy, five instances, read-only, stopped with 0 before NATS, started again${ENGINE_IS_OURS:+, killed}"
