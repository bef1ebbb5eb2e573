//! The cluster that the tests run on.

use anyhow::{Context as _, ensure};
use kube::{Client, Config};

/// Namespace in which `e2e/install` has installed the operator.
pub const SYSTEM_NAMESPACE: &str = "windlass-system";

/// A client of the cluster that `KUBECONFIG` names. Each test has its own: a client ends with the runtime that made it.
///
/// # Errors
/// Without `KUBECONFIG`: a test that cannot run has not passed.
pub async fn connect() -> anyhow::Result<Client> {
    ensure!(
        std::env::var_os("KUBECONFIG").is_some(),
        "KUBECONFIG is not set: run `make e2e`, which starts a cluster and installs the operator, or name a cluster \
         on which that has been done"
    );
    // Nothing is lost if another test has installed it before: it is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = Config::infer().await.context("read KUBECONFIG")?;
    Ok(Client::try_from(config)?)
}

/// An image with a shell that the nodes have, or can pull.
#[must_use]
pub fn busybox_image() -> String {
    std::env::var("WINDLASS_BUSYBOX_IMAGE").unwrap_or_else(|_| "registry.local/busybox:1".to_owned())
}
