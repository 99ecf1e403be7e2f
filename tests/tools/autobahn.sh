#!/usr/bin/env bash
# Runs the Autobahn test suite's fuzzing server against the daemon and prints the counts. Needs Python 2.7, the only version
# that the suite runs on: PYTHON27 names it. Not part of `make test`.
set -euo pipefail
source "$(dirname "$0")/common.sh"

python27=${PYTHON27:-python2.7}
installed="$tools/autobahn"

if ! "$python27" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then
    say "$python27 is not Python 2.7; set PYTHON27 to one"
    exit 1
fi
if [ ! -d "$installed" ]; then
    say "installing autobahntestsuite with pip"
    "$python27" -m pip install --quiet --disable-pip-version-check --target "$work/autobahn" \
        "setuptools<45" "autobahntestsuite==0.8.2" >&2
    mv "$work/autobahn" "$installed"
fi
export AUTOBAHN="$installed" PATH="$tools:$PATH"
export WSTEST="$python27 $root/tests/tools/wstest.py"
cargo test -p pontoon --test autobahn -- --nocapture
