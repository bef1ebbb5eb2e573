# shellcheck shell=bash
# The servers of the bench `serve`, each on its own copy of one tree: starting, stopping and watching them.
# Uses `programs`, `work` and `here` of programs.sh.
# shellcheck disable=SC2154  # set there

# By server and kind: plain, tls, users (plain, with passwords) and fresh (plain, started anew for a measurement).
declare -A processes=() ports=()

# start SERVER KIND: starts a server on its own copy of the tree and waits until it answers.
start() {
    local server=$1 kind=$2 root=$work/$1 port certificate="{certificate: $work/tls.crt, key: $work/tls.key}"
    stop "$server" "$kind"
    port=$((5980 + ${#ports[@]}))
    port=${ports[$server-$kind]:=$port}
    if [[ $server == nginx ]]; then
        sed "s|KIND|$kind|; s|PORT|$port$([[ $kind != tls ]] || echo ' ssl')|; s|WORK|$work|" "$here/nginx.conf" >"$root-$kind.conf"
        "${programs[nginx]}" -e stderr -c "$root-$kind.conf" >"$root-$kind.log" 2>&1 &
    else
        cat >"$root-$kind.yml" <<END
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: $root}
  delete: {enabled: true}
  cache: {blobdescriptor: inmemory}
catalog: {maxentries: 100000}
http: {addr: "127.0.0.1:$port"$([[ $kind != tls ]] || printf ', tls: %s' "$certificate")}
$([[ $kind != users ]] || printf 'auth: {htpasswd: {realm: bench, path: %s}}' "$work/htpasswd")
END
        "${programs[$server]}" serve "$root-$kind.yml" >"$root-$kind.log" 2>&1 &
    fi
    processes[$server-$kind]=$!
    until answers "$port"; do kill -0 $! || { tail "$root-$kind.log" >&2; exit 1; }; done
}

# answers PORT: whether somebody does. No program is started, so that the time of a start can be told.
answers() {
    local line=
    { : 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'GET /v2/ HTTP/1.0\r\n\r\n' >&3
    read -r line <&3 || :
    exec 3<&-
    [[ -n $line ]]
}

# stop SERVER KIND: stops it if it runs.
stop() {
    local process=${processes[$1-$2]:-}
    [[ -n $process ]] || return 0
    kill "$process" || :
    wait "$process" 2>/dev/null || :
    unset "processes[$1-$2]"
}

url() { printf 'http%s://127.0.0.1:%s%s' "$([[ $2 != tls ]] || echo s)" "${ports[$1-$2]}" "$3"; }

# cpu SERVER KIND: seconds of processor time that the server and its workers have had.
cpu() {
    local process=${processes[$1-$2]}
    # shellcheck disable=SC2046  # a path for each worker
    cat "/proc/$process/stat" $(pgrep -P "$process" | sed 's|.*|/proc/&/stat|') \
        | awk -v hertz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); ticks += $12 + $13 } END { print ticks / hertz }'
}

# memory SERVER KIND FIELD: MiB of the server and its workers, of a field of their status.
memory() {
    local process=${processes[$1-$2]}
    # shellcheck disable=SC2046  # a path for each worker
    cat "/proc/$process/status" $(pgrep -P "$process" | sed 's|.*|/proc/&/status|') \
        | awk -v field="$3:" '$1 == field { kib += $2 } END { printf "%.1f\n", kib / 1024 }'
}
