#!/usr/bin/env bash
# systemd.sh PACKAGE: installs the Debian package into a Debian system whose process 1 is systemd, and runs the
# service there beside NATS: start, reload, a frozen daemon, a wrong configuration, stop. One must be root.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"
work=$(cd "$work" && pwd -P)
package=$1

not_run() {
    say "NOT RUN: $*"
    exit 0
}
[[ $(id -u) == 0 ]] || not_run "systemd can be started as process 1 by root only"
if [[ ! -x $tools/debian/lib/systemd/systemd ]]; then
    if ! command -v debootstrap >/dev/null && [[ ${PONTOON_INSTALL:-} == 1 ]]; then
        apt-get update -q >"$work/apt" && apt-get install -q -y --no-install-recommends debootstrap >>"$work/apt" 2>&1 || true
    fi
    command -v debootstrap >/dev/null || not_run "there is no debootstrap"
    say "making a Debian system"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps bookworm "$work/debian" >"$work/log" 2>&1 ||
        { tail -n 5 "$work/log" >&2; not_run "debootstrap cannot make a system here"; }
    mv "$work/debian" "$tools/debian"
fi

init=
nats=
finish() {
    for process in $init $nats; do
        kill -KILL "$process" 2>/dev/null && wait "$process" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT
system=$work/system
cp -a "$tools/debian" "$system"
dpkg --root="$system" --log=/dev/null --install "$package" >"$work/log"
read -r port admin < <(python -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*[socket.getsockname()[1] for socket in sockets])')
config=$system/etc/pontoon/pontoon.toml
cat >"$config" <<TOML
nats.url = "nats://127.0.0.1:$port"
admin.listen = "127.0.0.1:$admin"
connectors.shop = { type = "sub0", url = "ws://127.0.0.1:9/ws" }
TOML
# The watchdog's time is shorter, and what the kernel of the tests may lack is left out: see deploy/README.md.
mkdir "$system/etc/systemd/system/pontoon.service.d"
printf '[Service]\nWatchdogSec=4s\nRestartSec=100ms\nPrivateUsers=no\n' >"$system/etc/systemd/system/pontoon.service.d/tests.conf"
"$tools/nats-server" --jetstream --store_dir "$work/store" --addr 127.0.0.1 --port "$port" >"$work/nats" 2>&1 &
nats=$!

# The network is that of this machine; all else belongs to that system.
cat >"$work/boot" <<'BOOT'
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
for folder in run tmp dev; do mount -t tmpfs tmpfs $folder; done
mount -t sysfs -o ro sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
for device in null zero full random urandom tty; do
    mknod -m 666 dev/$device c $(stat --format '0x%t 0x%T' /dev/$device)
done
mkdir dev/shm dev/pts dev/mqueue dev/hugepages
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
# The former root is left behind, so that services can have mounts of their own.
pivot_root . .
umount --lazy .
exec /usr/bin/env -i container=other /lib/systemd/systemd multi-user.target
BOOT
unshare --pid --mount --uts --ipc --cgroup --fork --kill-child bash "$work/boot" "$system" >"$work/boot.log" 2>&1 &
init=$!

# inside COMMAND...: runs it in that system.
inside() {
    nsenter --target "$(pgrep -P "$init")" --pid --mount --uts --ipc --cgroup --root --wd -- "$@"
}
is() {
    [[ $(inside systemctl show pontoon --property "$1" --value 2>/dev/null) == "$2" ]]
}
fail() {
    say "$*"
    inside systemctl show pontoon --property ActiveState,SubState,Result,ExecMainStatus,NRestarts >&2 || true
    inside journalctl --no-pager --unit pontoon --lines 20 >&2 || tail -n 5 "$work/boot.log" >&2
    exit 1
}
up() {
    inside systemctl list-units >/dev/null
}
until_true "systemd" up
inside systemctl start pontoon || fail "it does not start"
until_true "active" is ActiveState active
until_true "events are kept on disk" inside test -d /var/lib/private/pontoon/sub0.shop
main=$(inside systemctl show pontoon --property MainPID --value)
# A reload ends when the daemon has notified that it is ready again.
sed -i 's|:9/ws|:10/ws|' "$config"
inside systemctl reload pontoon || fail "it does not reload"
until_true "reloaded" is ActiveState active
is MainPID "$main" || fail "a reload has ended the daemon"
# A daemon that is frozen sends no keepalives.
inside kill -STOP "$main"
until_true "started again by the watchdog" is NRestarts 1
until_true "active after the watchdog" is ActiveState active
inside systemctl stop pontoon || fail "it does not stop"
is Result success || fail "it did not drain"
# A restart would not help.
printf 'connectors.shop = { type = "sub9" }\n' >"$config"
! inside systemctl start pontoon 2>/dev/null || fail "a wrong configuration was started"
until_true "failed" is ActiveState failed
is ExecMainStatus 78 && is NRestarts 0 || fail "a wrong configuration is tried again"
say "the service ran: ready, reloaded, started again by the watchdog, stopped, and 78 is final"
