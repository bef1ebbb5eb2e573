# shellcheck shell=bash
# The cluster that the scripts beside this work on: that of $KUBECONFIG, else the local one, which is started.
# Sourced, never run; after it kubectl and helm are on PATH and KUBECONFIG is set.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cluster=$root/e2e/cluster/cluster

if [[ -z ${KUBECONFIG:-} ]]; then
    "$cluster" up
    KUBECONFIG=$("$cluster" kubeconfig)
fi
if [[ $KUBECONFIG == "$("$cluster" kubeconfig 2>/dev/null)" ]]; then
    # shellcheck disable=SC2034  # for the scripts that source this
    is_local=1
    export WINDLASS_AUDIT_LOG=${KUBECONFIG%/*}/logs/audit.log
fi
programs=$("$root/e2e/tools/install" clients debian helm kubernetes)
PATH=${programs//$'\n'/:}:$PATH
export KUBECONFIG PATH

# What the scripts make carries this label, and only what carries it is ever removed.
made_by=windlass.dev/made-by=e2e

# make_namespace NAME: makes it and marks it as ours, unless it is there.
make_namespace() {
    kubectl get namespace "$1" >/dev/null 2>&1 || {
        kubectl create namespace "$1" >/dev/null
        kubectl label namespace "$1" "$made_by" >/dev/null
    }
}

# is_ours NAMESPACE
is_ours() { [[ -n $(kubectl get namespace --selector "$made_by" --field-selector "metadata.name=$1" --output name) ]]; }
