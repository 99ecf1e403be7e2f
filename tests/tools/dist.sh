#!/usr/bin/env bash
# dist.sh BINARY FOLDER: makes what people download from a static binary: an archive, a Debian package, a list of what was
# linked in (CycloneDX), and checksums. Then it installs the package into an empty root and runs it there. The binary may be
# one for another machine, as static-build.sh makes it with PONTOON_TARGET: then it is run by QEMU (Debian: qemu-user-static).
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"
binary=$1
out=$2
tuple=${PONTOON_TARGET:-$(rustc --print host-tuple)}
machine=${tuple%%-*}
emulator=()
[[ $machine == "$(uname -m)" ]] || emulator=("$(command -v "qemu-$machine-static")")
version=$("${emulator[@]}" "$binary" --version | cut -d' ' -f2)
name=pontoon-$version-$machine-linux
# Files have the time of the last commit, so that the same sources make the same files.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
umask 022
rm -rf "$out"
mkdir -p "$out"

# archive_of FOLDER: the folder beside it as a .tar.gz.
archive_of() {
    tar --create --directory "$work" --sort=name --owner=0 --group=0 --numeric-owner \
        --mtime="@$SOURCE_DATE_EPOCH" "$1" | gzip --no-name >"$out/$1.tar.gz"
}

install -D -m 0755 "$binary" "$work/$name/pontoon"
install -m 0644 README.md CHANGELOG.md SECURITY.md LICENSE "$work/$name/"
install -D -m 0644 -t "$work/$name/config" config/pontoon.toml config/minimal.toml
install -D -m 0644 -t "$work/$name/systemd" deploy/systemd/pontoon.service deploy/systemd/secrets.conf
install -D -m 0644 -t "$work/$name/man" deploy/man/*.1
archive_of "$name"

package=$work/package
case $machine in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) say "what Debian calls $machine is not known here"; exit 1 ;;
esac
install -D -m 0755 "$binary" "$package/usr/bin/pontoon"
install -D -m 0644 deploy/systemd/pontoon.service "$package/lib/systemd/system/pontoon.service"
sed -i 's|/usr/local/bin/pontoon|/usr/bin/pontoon|' "$package/lib/systemd/system/pontoon.service"
install -D -m 0644 -t "$package/usr/share/man/man1" deploy/man/*.1
gzip --no-name --best "$package"/usr/share/man/man1/*.1
install -D -m 0644 -t "$package/usr/share/doc/pontoon" README.md CHANGELOG.md SECURITY.md config/pontoon.toml config/minimal.toml
install -m 0644 LICENSE "$package/usr/share/doc/pontoon/copyright"
install -d "$package/etc/pontoon/conf.d" "$package/usr/share/bash-completion/completions"
"${emulator[@]}" "$binary" completions bash >"$package/usr/share/bash-completion/completions/pontoon"
mkdir "$package/DEBIAN"
cat >"$package/DEBIAN/control" <<CONTROL
Package: pontoon
Version: $version
Architecture: $architecture
Maintainer: Pontoon <pontoon@localhost>
Installed-Size: $(du -sk "$package" | cut -f1)
Section: net
Priority: optional
Recommends: procps
Description: bridge between services with persistent sockets and NATS
 Pontoon keeps WebSocket and Socket.IO connections to services open, publishes
 their messages as events on NATS, and carries out commands that come over NATS.
CONTROL
find "$package" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group --build "$package" "$out/pontoon_${version}_$architecture.deb" >/dev/null

"${CARGO:-cargo}" metadata --locked --format-version 1 --filter-platform "$tuple" |
    python tests/tools/sbom.py pontoon >"$out/$name.cdx.json"
(cd "$out" && sha256sum -- * >SHA256SUMS)

# Into an empty root: the package holds all that it needs.
target=$work/root
mkdir -p "$target/var/lib/dpkg/"{info,updates}
touch "$target/var/lib/dpkg/status"
dpkg --root="$target" --force-not-root --force-architecture --log=/dev/null --install "$out/pontoon_${version}_$architecture.deb" >/dev/null
run=(chroot "$target")
[[ $(id -u) == 0 ]] || run=(unshare --map-root-user chroot "$target")
for program in "${emulator[@]}"; do
    install "$program" "$target/emulator"
    run+=(/emulator)
done
[[ $("${run[@]}" /usr/bin/pontoon --version) == "pontoon $version" ]]
"${run[@]}" /usr/bin/pontoon sample sub0 >"$target/etc/pontoon/pontoon.toml"
"${run[@]}" /usr/bin/pontoon check
grep -q "^ExecStart=/usr/bin/pontoon " "$target/lib/systemd/system/pontoon.service"
(cd "$out" && sha256sum --check --quiet SHA256SUMS && ls -l)
