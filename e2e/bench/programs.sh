# shellcheck shell=bash
# What the benches share: the programs that they compare, a place for their data, and the median.
# shellcheck disable=SC2034  # those who source it use the variables

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rounds=${ROUNDS:-5}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/windlass-bench.XXXXXX")

say() { printf 'bench: %s\n' "$*" >&2; }

# median FIELD: of the lines on stdin.
median() {
    awk -v field="$1" '{ print $field }' | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

ours=${REGISTRY_SERVER:-$here/../../dist/amd64/registry-server}
[[ -x $ours ]] || ours=$here/../../dist/arm64/registry-server
[[ -x $ours ]] || { say 'no release build: make binaries'; exit 1; }
"$here/../tools/install" debian
mapfile -t places < <("$here/../tools/install" docker-registry distribution nginx)
declare -A programs=([ours]=$ours [debian]=${places[0]}/docker-registry [distribution]=${places[1]}/registry
    [nginx]=${places[2]}/nginx)
(cd "$here/../.." && cargo build --quiet --workspace --locked --examples) >&2
maker=${CARGO_TARGET_DIR:-$here/../../target}/debug/examples/registry-tree
loader=${CARGO_TARGET_DIR:-$here/../../target}/debug/examples/pull-load
export OTEL_TRACES_EXPORTER=none
