# shellcheck shell=bash
# shellcheck disable=SC2154  # names.sh and cluster set what is used here
# What a cluster has outside its namespaces, made and removed: control groups, the link, kernel settings, processes.
# Sourced by cluster.

# group_directories: the cluster's directory in each cgroup hierarchy of the machine, one a line.
group_directories() {
    awk -v group="$group" '{
        for (field = 7; $field != "-"; field++);
        type = $(field + 1)
        if (type == "cgroup") v1 = v1 $5 "/" group "\n"
        if (type == "cgroup2" && $5 == "/sys/fs/cgroup") v2 = $5 "/" group "\n"
    } END { printf "%s", v1 == "" ? v2 : v1 }' /proc/self/mountinfo | sort -u
}

# enter_groups: makes the cluster's control groups and moves the calling process into them.
enter_groups() {
    local directory setting controller
    while read -r directory; do
        mkdir -p "$directory"
        for setting in cpuset.cpus cpuset.mems; do
            # A new v1 cpuset is empty, and nothing can run in an empty one.
            if [[ -e $directory/cgroup.clone_children && -e $directory/$setting ]]; then
                cat "$(dirname "$directory")/$setting" >"$directory/$setting"
            fi
        done
        if [[ -e $(dirname "$directory")/cgroup.controllers ]]; then
            # v2: the parent must pass its controllers on. Written by the documentation and not tried.
            for controller in $(<"$(dirname "$directory")/cgroup.controllers"); do
                echo "+$controller" >"$(dirname "$directory")/cgroup.subtree_control" || true
            done
        fi
        echo "$BASHPID" >"$directory/cgroup.procs"
    done < <(group_directories)
}

# processes: those that are in the cluster's control groups, whoever their parent is; other clusters' never are.
processes() {
    local directory
    group_directories | while read -r directory; do
        [[ ! -d $directory ]] || find "$directory" -name cgroup.procs -exec cat {} + 2>/dev/null || true
    done | sort -un
}

# is_running: whether process 1 of node-1 is alive; the number alone could be another process's by now.
is_running() {
    [[ -s $state/process ]] && grep -Eqs "/$group(/|\$)" "/proc/$(<"$state/process")/cgroup"
}

# process_of NODE: the machine's number of the node's process 1.
process_of() {
    local first outer
    first=$(<"$state/process")
    case $1 in
    node-1 | 1) echo "$first" ;;
    node-2 | 2) outer=$(pgrep --parent "$first" --exact unshare) && pgrep --parent "$outer" ;;
    *) fail "no node named '$1': they are ${nodes[*]}" ;;
    esac
}

# inside NODE COMMAND...: runs the command in the node's namespaces, with the caller's directory, input and output.
inside() {
    local process
    process=$(process_of "$1")
    shift
    nsenter --target "$process" --mount --net --pid --uts --ipc --cgroup --wdns="$PWD" "$@"
}

# make_link: claims the first free number for the link to the host, and makes it. An interface can be made only once,
# so of two clusters that start at the same moment one gets it.
make_link() {
    for ((link = 0; link < 255; link++)); do
        if ip link add "windlass$link" type veth peer name "windlass${link}p" 2>/dev/null; then
            echo "$link" >"$state/link"
            ip address add "$(host_end "$link")/30" dev "windlass$link"
            ip link set "windlass$link" up
            return
        fi
    done
    fail 'no free number for a link to the host (interfaces windlass0 to windlass254)'
}

# save_sysctls, restore_sysctls: what kubelets change for the whole machine. The first cluster saves, the last restores.
save_sysctls() {
    local setting
    (
        flock 7
        [[ ! -e $clusters/sysctls ]] || exit 0
        for setting in "${global_sysctls[@]}"; do
            [[ ! -e /proc/sys/$setting ]] || printf '%s %s\n' "$setting" "$(</proc/sys/"$setting")"
        done >"$clusters/sysctls"
    ) 7>"$clusters/.lock"
}

restore_sysctls() {
    local setting value other
    (
        flock 7
        # Any other cluster that is up still wants them.
        for other in "$clusters"/*/process; do
            if [[ -e $other && $other != "$state/process" ]]; then exit 0; fi
        done
        [[ -e $clusters/sysctls ]] || exit 0
        while read -r setting value; do
            if [[ $(</proc/sys/"$setting") != "$value" ]]; then
                echo "$value" >"/proc/sys/$setting" || say "could not set $setting back to $value"
            fi
        done <"$clusters/sysctls"
        rm "$clusters/sysctls"
    ) 7>"$clusters/.lock"
}

# remove_cluster: ends all that the cluster runs and removes what it has outside its namespaces. Harmless when part of
# it, or all, is gone already. The logs stay; who wants them gone removes $state.
remove_cluster() {
    local left deadline=$((SECONDS + 30))
    if is_running; then kill -KILL "$(<"$state/process")" 2>/dev/null || true; fi
    while left=$(processes) && [[ -n $left ]]; do
        ((SECONDS < deadline)) || fail "these processes do not end: ${left//$'\n'/ }"
        # Killing process 1 ends all the others, unless it never came to be.
        # shellcheck disable=SC2086  # one word a process
        kill -KILL $left 2>/dev/null || true
        sleep 0.1
    done
    if [[ -s $state/link ]]; then ip link delete "windlass$(<"$state/link")" 2>/dev/null || true; fi
    group_directories | while read -r directory; do
        [[ ! -d $directory ]] || find "$directory" -depth -type d -exec rmdir {} +
    done
    if [[ -d $state ]]; then
        restore_sysctls
        find "$state" -mindepth 1 -maxdepth 1 ! -name logs -exec rm -rf {} +
    fi
}
