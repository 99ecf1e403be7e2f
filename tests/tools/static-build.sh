#!/usr/bin/env bash
# Links the daemon statically, from the sources that the image is made from and in the way that the image is. Prints the
# path of the binary. PONTOON_PROFILE is the profile of cargo, `release` if it is not set; PONTOON_TARGET is the target, such
# as `aarch64-unknown-linux-gnu`, if it is not this machine: that needs its standard library (rustup target add) and a C
# compiler (Debian: gcc-aarch64-linux-gnu).
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"
profile=${PONTOON_PROFILE:-release}

# What deploy/Dockerfile copies. Times are kept, so that nothing is built again without need.
context=$root/target/image
mkdir -p "$context"
find "$context" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
for path in $(sed -n 's/^!//p' .dockerignore); do
    mkdir -p "$context/$(dirname "$path")"
    cp -a "$path" "$context/$path"
done

flags=$(sed -n 's/^ENV RUSTFLAGS="\(.*\)"$/\1/p' deploy/Dockerfile | sed 's/\\"/"/g')
host=$(rustc --print host-tuple)
target=${PONTOON_TARGET:-$host}
if [[ $target != "$host" ]]; then
    linker=CARGO_TARGET_${target//-/_}_LINKER
    export "${linker^^}=${target/-unknown/}-gcc"
fi
start=$SECONDS
(
    cd "$context"
    RUSTFLAGS=$flags "${CARGO:-cargo}" build --locked --profile "$profile" --target "$target" \
        --target-dir "$root/target" --package pontoon --bin pontoon >&2
)
binary=$root/target/$target/$profile/pontoon
if readelf --program-headers "$binary" | grep -w INTERP >&2; then
    say "$binary is not static"
    exit 1
fi
say "static, profile $profile: $(stat -c %s "$binary") bytes, built in $((SECONDS - start)) s"
printf '%s\n' "$binary"
