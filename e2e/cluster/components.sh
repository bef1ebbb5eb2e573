# shellcheck shell=bash
# shellcheck disable=SC2154  # names.sh and init set what is used here
# The processes of a node, and how they are watched. Sourced by init.

# progress WORDS: a line that `cluster up` shows.
progress() { printf '%s\n' "$*" >>"$state/progress"; }

# fail WORDS: gives up; `cluster up` shows the words and cleans up.
fail() {
    trap - ERR
    # The first failure is the cause; those after it are its consequences.
    (set -o noclobber && printf '%s\n' "$*" >"$state/failure") 2>/dev/null || true
    exit 1
}

# supervise LOG COMMAND...: runs the command in the background with its output in the log. One that ends while the
# cluster starts has failed, and fails the cluster: waiting for it would only end in a time-out that names no cause.
# Later it is started again, as an init system does on real nodes.
supervise() {
    local log=$1
    shift
    mkdir -p "$(dirname "$logs/$log.log")"
    (
        trap - ERR
        set +e
        while :; do
            "$@" >>"$logs/$log.log" 2>&1
            code=$?
            if [[ ! -e $state/ready ]]; then
                (set -o noclobber && printf '%s\n' "$log" >"$state/died") 2>/dev/null
                exit
            fi
            printf 'ended with exit status %d, starting again\n' "$code" >>"$logs/$log.log"
            sleep 1
        done
    ) &
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [[ ! -s $state/died ]] || fail "$(<"$state/died") ended as soon as it was started"
        [[ ! -s $state/failure ]] || exit 1
        ((SECONDS < end)) || fail "waited too long for $what"
        sleep 0.1
    done
}

start_api_server() {
    local peer=http://127.0.0.1:2380 client=http://127.0.0.1:2379
    # Losing the data with the machine is no loss here, and fsync is what makes etcd slow.
    supervise etcd etcd --name node-1 --data-dir "$state/etcd" --unsafe-no-fsync --log-level warn \
        --listen-client-urls "$client" --advertise-client-urls "$client" \
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "node-1=$peer"
    supervise kube-apiserver kube-apiserver \
        --etcd-servers "$client" \
        --secure-port "$api_port" --advertise-address "${node_ip[node-1]}" \
        --service-cluster-ip-range "$service_range" \
        --authorization-mode Node,RBAC --allow-privileged \
        --enable-admission-plugins NodeRestriction,OwnerReferencesPermissionEnforcement \
        --client-ca-file "$pki/ca.crt" \
        --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
        --service-account-issuer "https://kubernetes.default.svc.$cluster_domain" \
        --service-account-key-file "$pki/service-accounts.pub" \
        --service-account-signing-key-file "$pki/service-accounts.key" \
        --kubelet-client-certificate "$pki/apiserver-kubelet.crt" --kubelet-client-key "$pki/apiserver-kubelet.key" \
        --kubelet-certificate-authority "$pki/ca.crt" --kubelet-preferred-address-types InternalIP \
        --audit-policy-file "$here/config/audit.yaml" --audit-log-path "$logs/audit.log"
}

start_controllers() {
    # At the default 20 requests a second, a test suite that makes namespaces by the dozen crawls.
    supervise kube-controller-manager kube-controller-manager \
        --kubeconfig "$pki/kube-controller-manager.kubeconfig" --bind-address 127.0.0.1 --leader-elect=false \
        --use-service-account-credentials --service-account-private-key-file "$pki/service-accounts.key" \
        --root-ca-file "$pki/ca.crt" \
        --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" \
        --allocate-node-cidrs=false --cluster-cidr "$pod_range" --kube-api-qps 200 --kube-api-burst 400
    supervise kube-scheduler kube-scheduler \
        --kubeconfig "$pki/kube-scheduler.kubeconfig" --bind-address 127.0.0.1 --leader-elect=false
}

start_containerd() {
    supervise "$node/containerd" containerd --config /etc/containerd/config.toml
    wait_for 30 "containerd on $node" ctr version
}

# import_images: the images that are there before any Pod is.
import_images() {
    local archive
    for archive in "$state"/images/*.tar; do ctr --namespace k8s.io images import "$archive"; done
}

# start_kubelet: the two that make a node of a machine with a runtime.
start_kubelet() {
    supervise "$node/kubelet" kubelet --config /etc/kubernetes/kubelet.yaml --kubeconfig "$pki/$node.kubeconfig" \
        --hostname-override "$node" --node-ip "${node_ip[$node]}" \
        --image-credential-provider-config /etc/kubernetes/credential-provider.yaml \
        --image-credential-provider-bin-dir /etc/kubernetes/credential-providers
    supervise "$node/kube-proxy" kube-proxy --config /etc/kubernetes/kube-proxy.yaml
}

wait_for_nodes() {
    local each range
    for each in "${nodes[@]}"; do
        wait_for 60 "$each to register" kubectl get node "$each"
        range=${node_pods[$each]}
        kubectl patch node "$each" --patch "{\"spec\": {\"podCIDR\": \"$range\", \"podCIDRs\": [\"$range\"]}}"
    done
    wait_for 60 'the nodes to be Ready' kubectl wait --for=condition=Ready --timeout=2s nodes --all
}

# shellcheck disable=SC2034  # render reads the variables by their names
install_addons() {
    local coredns_programs provisioner_programs
    coredns_programs=$(dirname "$(type -P coredns)")
    provisioner_programs=$(dirname "$(type -P local-path-provisioner)")
    {
        render "$here/manifests/dns.yaml" busybox_image coredns_programs cluster_domain dns_service_ip
        echo ---
        render "$here/manifests/storage.yaml" busybox_image provisioner_programs
        echo ---
        cat "$here/manifests/credential-provider.yaml"
    } | kubectl apply --filename -
    wait_for 60 DNS kubectl --namespace kube-system wait --for=condition=Available --timeout=2s deployment/coredns
    wait_for 60 'the volume provisioner' kubectl --namespace local-path-storage \
        wait --for=condition=Available --timeout=2s deployment/local-path-provisioner
    # Made by a controller a moment after the namespace; before it, no Pod can be made there.
    wait_for 30 'the default ServiceAccount' kubectl get serviceaccount default
}
