//! The ways in which nodes are set up: where the configuration of their runtime stands, and where the agent may write.

use k8s_openapi::api::core::v1::NodeSystemInfo;

/// A way in which nodes are set up.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Distribution {
    /// containerd as its own packages, kubeadm and most clouds set it up.
    Containerd,
    /// k3s, which writes containerd's configuration itself.
    K3s,
    /// RKE2, which does so too.
    Rke2,
    /// Talos Linux.
    Talos,
    /// CRI-O.
    CriO,
}

impl Distribution {
    /// All of them, those first whose files tell them from others.
    pub const ALL: [Self; 5] = [Self::K3s, Self::Rke2, Self::Talos, Self::CriO, Self::Containerd];

    /// What a node says of itself to the API server; `None` for a runtime that the agent does not know.
    #[must_use]
    pub fn of(node: &NodeSystemInfo) -> Option<Self> {
        let runtime = node.container_runtime_version.split(':').next().unwrap_or_default();
        match runtime {
            "containerd" if node.kubelet_version.contains("+k3s") => Some(Self::K3s),
            "containerd" if node.kubelet_version.contains("+rke2") => Some(Self::Rke2),
            "containerd" if node.os_image.starts_with("Talos") => Some(Self::Talos),
            "containerd" => Some(Self::Containerd),
            "cri-o" => Some(Self::CriO),
            _ => None,
        }
    }

    /// Its name in statuses and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::K3s => "k3s",
            Self::Rke2 => "RKE2",
            Self::Talos => "Talos",
            Self::CriO => "CRI-O",
        }
    }

    /// Directory of the node with the runtime's configuration; the agent reads it.
    #[must_use]
    pub fn configuration(self) -> &'static str {
        match self {
            Self::Containerd => "/etc/containerd",
            Self::K3s => "/var/lib/rancher/k3s/agent/etc/containerd",
            Self::Rke2 => "/var/lib/rancher/rke2/agent/etc/containerd",
            Self::Talos => "/etc/cri",
            Self::CriO => "/etc/crio",
        }
    }

    /// Directory of the node below which the agent writes, and nowhere else.
    #[must_use]
    pub fn writable(self) -> &'static str {
        match self {
            Self::Containerd => "/etc/containerd/certs.d",
            Self::K3s => "/var/lib/rancher/k3s/agent/etc/containerd/certs.d",
            Self::Rke2 => "/var/lib/rancher/rke2/agent/etc/containerd/certs.d",
            Self::Talos => "/etc/cri/conf.d/hosts",
            Self::CriO => "/etc/containers",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Distribution;
    use k8s_openapi::api::core::v1::NodeSystemInfo;

    #[test]
    fn a_node_says_how_it_is_set_up() {
        let of = |runtime: &str, kubelet: &str, system: &str| {
            Distribution::of(&NodeSystemInfo {
                container_runtime_version: runtime.to_owned(),
                kubelet_version: kubelet.to_owned(),
                os_image: system.to_owned(),
                ..NodeSystemInfo::default()
            })
        };
        assert_eq!(of("containerd://2.1.4", "v1.34.1", "Ubuntu 24.04"), Some(Distribution::Containerd));
        assert_eq!(of("containerd://2.1.4-k3s1", "v1.34.1+k3s1", "K3s"), Some(Distribution::K3s));
        assert_eq!(of("containerd://2.1.4-k3s1", "v1.34.1+rke2r1", "SLES"), Some(Distribution::Rke2));
        assert_eq!(of("containerd://2.1.4", "v1.34.1", "Talos (v1.11.1)"), Some(Distribution::Talos));
        assert_eq!(of("cri-o://1.34.0", "v1.34.0", "Fedora"), Some(Distribution::CriO));
        assert_eq!(of("docker://27.0", "v1.34.0", "Ubuntu"), None);
    }
}
