# shellcheck shell=bash
# shellcheck disable=SC2034  # most of these are used by the scripts that source this one
# Names, addresses and directories of a test cluster. Sourced by the other scripts, never run.
#
# Only the addresses of the link to the host differ from cluster to cluster: all others live in network namespaces of
# the cluster's own, so any number of clusters can use the same ones.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

api_port=6443
service_range=10.96.0.0/16
kubernetes_service_ip=10.96.0.1
dns_service_ip=10.96.0.10
cluster_domain=cluster.local

# Documentation addresses (RFC 5737) and benchmark addresses (RFC 2544): real networks use neither.
nodes=(node-1 node-2)
node_network_bits=24
pod_range=10.244.0.0/16
declare -A node_ip=([node-1]=192.0.2.10 [node-2]=192.0.2.11)
# The Pod ranges are fixed and not left to the controller manager, which hands them out in the order in which nodes
# happen to register: the CNI configuration and the routes are written before any node does.
declare -A node_pods=([node-1]=10.244.1.0/24 [node-2]=10.244.2.0/24)

# The cluster's own image, tagged twice. Whatever else is preloaded should have this host part as well: it names no
# registry, so a kubelet that tried to pull would fail at once, and the kubelets trust it (see config/kubelet.yaml).
busybox_image=registry.local/busybox:1
pause_image=registry.local/pause:1

# Kernel settings without a namespace that a kubelet changes; they are put back when the last cluster stops.
global_sysctls=(
    vm/overcommit_memory vm/panic_on_oom
    kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes
)

# use_cluster NAME: sets the paths and host-side names of the cluster NAME.
use_cluster() {
    name=$1
    cache=${WINDLASS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/windlass}
    clusters=$cache/clusters
    use_state "$clusters/$name"
    group=windlass-$name
}

# use_state DIRECTORY: the same for the scripts inside, which know nothing of the cache.
use_state() {
    state=$1
    pki=$state/pki
    logs=$state/logs
}

# host_end N, cluster_end N: the two addresses of the Nth link between host and cluster.
host_end() { printf '198.18.%d.1' "$1"; }
cluster_end() { printf '198.18.%d.2' "$1"; }

# render FILE VARIABLE...: prints FILE with each @VARIABLE@ replaced by the shell variable of that name.
render() {
    local text variable
    text=$(<"$1")
    shift
    for variable in "$@"; do text=${text//@"$variable"@/"${!variable}"}; done
    printf '%s\n' "$text"
}
