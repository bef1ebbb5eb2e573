# shellcheck shell=bash
# What the servers of the bench `serve` have to serve: one tree, as hard links for each server and, by its paths, for nginx.
# Uses `work` and `maker` of programs.sh.
# shellcheck disable=SC2034,SC2154  # those who source it use and set the variables

say "content in $work"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=bench \
    -keyout "$work/tls.key" -out "$work/tls.crt" 2>/dev/null
"${programs[ours]}" htpasswd user <<<password >"$work/htpasswd"

# A repository of 10,000 tags, one of each size of blob, and 10,000 of which nothing is known but that they exist.
mkdir "$work/ours"
"$maker" --images 200 --tags 10000 --repositories 1 \
    --blobs 20000x4096 --blobs 1x$((1 << 20)) --blobs 1x$((64 << 20)) "$work/ours"
tree=$work/ours/docker/registry/v2
# shellcheck disable=SC2046  # words are meant
printf "$tree/repositories/catalog/%05d/%s\n" $(for n in {1..10000}; do echo "$n _layers $n _manifests"; done) \
    | xargs mkdir --parents
for server in debian distribution; do cp --archive --link "$work/ours" "$work/$server"; done

# link_blobs BYTES: makes nginx's files of the blobs of this size, and prints their paths.
link_blobs() {
    local paths=/v2/bench/blobs-$1/blobs
    mkdir --parents "$work/static$paths"
    find "$tree/repositories/bench/blobs-$1/_layers/sha256" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort \
        | perl -ne 'BEGIN { ($tree, $to, $paths) = splice @ARGV, 0, 3 } chomp;
            link("$tree/blobs/sha256/" . substr($_, 0, 2) . "/$_/data", "$to/sha256:$_") or die $!;
            print "$paths/sha256:$_\n"' "$tree" "$work/static$paths" "$paths"
}
link_blobs 4096 >"$work/small.paths"
middle=$(link_blobs $((1 << 20)))
large=$(link_blobs $((64 << 20)))

digest=$(<"$tree/repositories/bench/app0/_manifests/tags/v0/current/link")
manifests=$work/static/v2/bench/app0/manifests
mkdir --parents "$manifests"
cp "$tree/blobs/sha256/${digest:7:2}/${digest:7}/data" "$manifests/v0"
ln "$manifests/v0" "$manifests/$digest"

# Blobs of 4 KiB that nobody has yet.
head --bytes $((4096 * 40000)) /dev/urandom >"$work/small"
mkdir "$work/split"
split --bytes 4096 --suffix-length 6 --numeric-suffixes "$work/small" "$work/split/"
find "$work/split" -type f | sort | xargs sha256sum | sed 's/^/sha256:/; s/ .*//' >"$work/small.digests"
rm -r "$work/split"
