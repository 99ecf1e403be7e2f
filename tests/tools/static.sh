#!/usr/bin/env bash
# Links the daemon statically, from the sources that the image is made from and in the way that the image is, and runs
# it in an empty root. The profile is a quicker one, whose binary is larger; PONTOON_PROFILE=release takes the image's.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"
cargo=${CARGO:-cargo}
profile=${PONTOON_PROFILE:-quick}
# The quick profile optimizes little and links without LTO.
mebibytes=26
[[ $profile == release ]] && mebibytes=20
goal=$((mebibytes * 1024 * 1024))

# What deploy/Dockerfile copies. Times are kept, so that nothing is built again without need.
context=$root/target/image
mkdir -p "$context"
find "$context" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
for path in $(sed -n 's/^!//p' .dockerignore); do
    mkdir -p "$context/$(dirname "$path")"
    cp -a "$path" "$context/$path"
done

flags=$(sed -n 's/^ENV RUSTFLAGS="\(.*\)"$/\1/p' deploy/Dockerfile | sed 's/\\"/"/g')
target=$(rustc --print host-tuple)
start=$SECONDS
(
    cd "$context"
    RUSTFLAGS=$flags "$cargo" build --locked --profile "$profile" --target "$target" \
        --target-dir "$root/target" --package pontoon --bin pontoon
)
binary=$root/target/$target/$profile/pontoon
took=$((SECONDS - start))

if ! ldd "$binary" 2>&1 | grep -qE 'statically linked|not a dynamic executable'; then
    say "$binary is not static:"
    ldd "$binary" >&2
    exit 1
fi
size=$(stat -c %s "$binary")
printf 'static, profile %s: %s bytes (goal: at most %s), built in %s s\n' "$profile" "$size" "$goal" "$took"
[[ $size -le $goal ]] || { say "that is too large"; exit 1; }

"$cargo" build --quiet --locked --package pontoon-demo --bins
PONTOON_STATIC=$binary "$cargo" test --locked --package pontoon --test image
