#!/usr/bin/env bash
# Counts the instructions of the hot paths on fixed input, and compares them with tests/bench/hot_paths/counts.txt: fails if
# one takes over 10 % more. UPDATE=1 writes the file instead. CHECK_PROFILE names the profile; only those of release are kept.
#
# valgrind counts; where there is none, Debian's is put into target/tools/valgrind.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"
cargo=${CARGO:-cargo}
profile=${CHECK_PROFILE:-release}
counts=$root/tests/bench/hot_paths/counts.txt
few=1000
many=3000

if ! command -v valgrind >/dev/null; then
    if [[ ! -x $tools/valgrind/bin/valgrind ]]; then
        from_debian valgrind '*' usr/bin/valgrind "$work/valgrind"
        mv "$work/unpacked-valgrind/usr" "$tools/valgrind"
    fi
    PATH=$tools/valgrind/bin:$PATH
    export VALGRIND_LIB=$tools/valgrind/libexec/valgrind
fi

"$cargo" build --quiet --locked --profile "$profile" --package pontoon-hot-paths
folder=$profile
[[ $profile == dev ]] && folder=debug
program=${CARGO_TARGET_DIR:-target}/$folder/pontoon-hot-paths

# instructions PATH TIMES: how many the whole program takes.
instructions() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" 2>&1 |
        sed -n 's/^==[0-9]*== Collected : \([0-9]*\).*/\1/p'
}

compiler="$(rustc --version | cut -d' ' -f2) $(uname -m)"
found=$(
    echo "# Instructions of each hot path, on fixed input, built as released. \`make bench-check UPDATE=1\` writes this file."
    echo "# rustc $compiler"
    # What the program does besides is the same for both.
    for path in $("$program"); do
        before=$(instructions "$path" "$few")
        after=$(instructions "$path" "$many")
        [[ -n $before && -n $after ]] || { say "valgrind could not count $path"; exit 1; }
        echo "$path $(((after - before) / (many - few)))"
    done
)

if [[ -n ${UPDATE:-} ]]; then
    printf '%s\n' "$found" >"$counts"
    cat "$counts"
    exit
fi
known=$(sed -n 's/^# rustc //p' "$counts")
[[ $known == "$compiler" ]] || say "the counts are of rustc $known, and this is $compiler: run make bench-check UPDATE=1"
awk -v tolerance=10 '
    /^#/ { next }
    FNR == NR { before[$1] = $2; next }
    {
        change = before[$1] ? 100 * ($2 / before[$1] - 1) : 0
        printf "%-20s %8d -> %8d  %+.1f %%\n", $1, before[$1], $2, change
        if (!($1 in before)) { printf "%s is new: run make bench-check UPDATE=1\n", $1; bad = 1 }
        if (change > tolerance) { printf "%s takes over %d %% more instructions\n", $1, tolerance; bad = 1 }
    }
    END { exit bad }
' "$counts" - <<<"$found"
