#!/usr/bin/env bash
# Writes a connector to begin from, a crate that builds against this checkout: new.sh <name> <folder>
set -euo pipefail

name=${1:-} folder=${2:-}
if [[ ! $name =~ ^[a-z][a-z0-9]*$ || -z $folder || -e $folder ]]; then
  echo "usage: $0 <name> <folder>   (a name of small letters and digits, such as echo, and a folder that does not exist)" >&2
  exit 2
fi
template=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$template/../.." && pwd)

mkdir -p "$folder"
cp -r "$template"/{Cargo.toml,config.toml,src,transcripts} "$folder"
printf '# %s\n\nWhat the service is, its operations and its events.\n' "${name^}" >"$folder/README.md"
cp "$root/Cargo.lock" "$folder"
find "$folder" -type f ! -name Cargo.lock -exec sed -i -E \
  -e "s/pontoon([-_])board/pontoon\1$name/g" \
  -e "s/\bBoard(Session)?\b/${name^}\1/g" \
  -e "s/connectors\.board\]/connectors.$name]/g" \
  -e "s/(type|TYPE: &'static str) = \"board\"/\1 = \"$name\"/" \
  -e "s/\`board\` instance/\`$name\` instance/" \
  -e "s/BOARD_TOKEN/${name^^}_TOKEN/" \
  -e "s/^description = .*/description = \"A connector of Pontoon for ${name^}\"/" \
  -e "s#path = \"\.\./\.\.\"#path = \"$root\"#" \
  -e "s#path = \"\.\./([a-z]+)\"#path = \"$root/connectors/\1\"#" \
  {} +
printf '\n[workspace]\n' >>"$folder/Cargo.toml"
echo "$folder: cargo test, then cargo run -- sample $name"
