//! What the clients that people use make of the server: a file for each of them. Run by `make clients`, without a
//! cluster. docs/clients.md tells what was tried.

mod anonymous;
mod buildkit;
mod containerd;
mod cosign;
mod crane;
mod docker;
mod healing;
mod helm;
mod oras;
mod podman;
mod regctl;
mod skopeo;

use std::path::Path;

use anyhow::{Context as _, ensure};

/// Folder of `e2e/tools`, Go module, and name in the table of docs/clients.md.
const PINNED: [(&str, &str, &str); 7] = [
    ("buildkit", "github.com/moby/buildkit", "BuildKit"),
    ("clients", "github.com/google/go-containerregistry", "crane"),
    ("clients", "github.com/regclient/regclient", "regctl"),
    ("clients", "oras.land/oras", "oras"),
    ("containerd", "github.com/containerd/containerd/v2", "containerd"),
    ("cosign", "github.com/sigstore/cosign/v3", "cosign"),
    ("helm", "helm.sh/helm/v4", "Helm"),
];

#[test]
fn the_documentation_names_the_versions_that_are_tried() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("../docs/clients.md"))?;
    for (concern, module, client) in PINNED {
        let modules = std::fs::read_to_string(root.join("tools").join(concern).join("go.mod"))?;
        let required = modules.lines().find_map(|line| line.trim().strip_prefix(module)?.strip_prefix(" v"));
        let version =
            required.and_then(|rest| rest.split(' ').next()).context("a module that is required")?;
        ensure!(table.contains(&format!("| {client} | {version} |")), "{client} is at {version}");
    }
    Ok(())
}
