//! Which runtime a node has, by what of it is mounted, and whether it reads what the agent writes.

use std::path::Path;

use super::disk::on_host;
use super::{containerd, crio};
use crate::api::node_access::NodeReason;
use crate::conditions::Verdict;
use crate::node_access::distribution::Distribution;

/// The way in which the node is set up. An empty directory tells nothing, for a mount makes one where there is none, so
/// that only containerd, which does without any file, is recognised by its directory.
#[must_use]
pub fn find(host: &Path) -> Option<Distribution> {
    Distribution::ALL.into_iter().find(|distribution| {
        let directory = on_host(host, distribution.configuration());
        match distribution {
            Distribution::Containerd => directory.is_dir(),
            Distribution::CriO => {
                directory.join("crio.conf").exists() || directory.join("crio.conf.d").is_dir()
            }
            Distribution::K3s | Distribution::Rke2 | Distribution::Talos => {
                directory.join(containerd::main_file(*distribution)).exists()
            }
        }
    })
}

/// Whether the runtime reads what the agent writes.
#[must_use]
pub fn verdict(host: &Path, distribution: Option<Distribution>) -> Verdict<NodeReason> {
    match distribution {
        Some(Distribution::CriO) => crio::verdict(host),
        Some(distribution) => containerd::verdict(host, distribution),
        None => Verdict::new(false, NodeReason::UnsupportedRuntime, unsupported()),
    }
}

fn unsupported() -> String {
    let known: Vec<String> = Distribution::ALL
        .iter()
        .map(|distribution| format!("{} ({})", distribution.name(), distribution.configuration()))
        .collect();
    format!("none of these is set up on the node: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{find, verdict};
    use crate::node_access::distribution::Distribution;

    #[test]
    fn a_runtime_is_known_by_the_files_that_are_mounted() {
        let k3s = "var/lib/rancher/k3s/agent/etc/containerd";
        for (entries, expected) in [
            (vec!["etc/containerd/config.toml"], Some(Distribution::Containerd)),
            // A mount makes the directory where there is none.
            (vec!["etc/containerd/"], Some(Distribution::Containerd)),
            (vec!["etc/containerd/", &format!("{k3s}/config.toml")], Some(Distribution::K3s)),
            (vec!["etc/containerd/config.toml", &format!("{k3s}/certs.d/")], Some(Distribution::Containerd)),
            (vec!["var/lib/rancher/rke2/agent/etc/containerd/config.toml"], Some(Distribution::Rke2)),
            (vec!["etc/cri/containerd.toml", "etc/containerd/"], Some(Distribution::Talos)),
            (vec!["etc/crio/crio.conf"], Some(Distribution::CriO)),
            (vec!["etc/crio/crio.conf.d/10-crio.conf", "etc/containerd/"], Some(Distribution::CriO)),
            (vec!["etc/containers/certs.d/"], None),
            (vec![], None),
        ] {
            let host = tempfile::tempdir().unwrap();
            for entry in &entries {
                let path = host.path().join(entry);
                if entry.ends_with('/') {
                    fs::create_dir_all(&path).unwrap();
                } else {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, "").unwrap();
                }
            }
            assert_eq!(find(host.path()), expected, "{entries:?}");
        }
    }

    #[test]
    fn an_unknown_runtime_is_told_with_those_that_are_known() {
        let host = tempfile::tempdir().unwrap();
        let verdict = verdict(host.path(), None);
        assert_eq!((verdict.status, verdict.reason.to_string().as_str()), ("False", "UnsupportedRuntime"));
        assert!(verdict.message.contains("CRI-O (/etc/crio)"), "{}", verdict.message);
    }
}
