//! podman and buildah, which share their code with skopeo but not what they do.

use anyhow::ensure;
use e2e::case::Outcome;
use e2e::hello;
use e2e::registry::{PASSWORD, USER};
use e2e::server::{Server, with_server};

/// Runs podman or buildah with a storage of the test's own.
pub(crate) async fn run(server: &Server, program: &str, line: &str) -> anyhow::Result<String> {
    let storage = "--root storage/root --runroot storage/run --storage-driver vfs";
    let storage = storage.replace("storage/", &format!("{}/", server.path("storage").display()));
    let cgroups = if program == "podman" { "--cgroup-manager cgroupfs" } else { "" };
    server.run(&format!("{program} {storage} {cgroups} {line}")).await
}

#[tokio::test]
async fn images_are_pulled_pushed_and_gathered_by_podman() -> Outcome {
    with_server(async |server| {
        let (address, hello) = (server.address(), hello::for_skopeo().await?);
        let podman = async |line: &str| run(server, "podman", line).await;
        let image = format!("{address}/podman/hello");
        podman(&format!("login --username {USER} --password {PASSWORD} {address}")).await?;
        server.run(&format!("skopeo copy {hello} docker://{image}:v1")).await?;

        podman(&format!("pull {image}:v1")).await?;
        podman(&format!("tag {image}:v1 {image}:v2")).await?;
        for format in ["oci", "v2s2"] {
            podman(&format!("push --format {format} {image}:v2 {image}:{format}")).await?;
        }
        podman(&format!("push --compression-format zstd {image}:v2 {image}:zstd")).await?;
        podman(&format!("push {image}:v2 {address}/podman/other:v2")).await?;
        podman(&format!("manifest create {image}:all")).await?;
        podman(&format!("manifest add {image}:all docker://{image}:oci")).await?;
        podman(&format!("manifest push --all {image}:all docker://{image}:all")).await?;
        podman("rmi --all --force").await?;
        for tag in ["oci", "v2s2", "zstd", "all"] {
            podman(&format!("pull {image}:{tag}")).await?;
        }
        let tags = podman(&format!("search --list-tags {image}")).await?;
        ensure!(["all", "oci", "v1", "v2s2", "zstd"].iter().all(|tag| tags.contains(tag)), "{tags}");
        podman(&format!("logout {address}")).await?;
        ensure!(podman(&format!("pull {image}:oci")).await.is_err(), "pulled without a password");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn images_are_built_and_pushed_by_buildah() -> Outcome {
    with_server(async |server| {
        let address = server.address();
        let buildah = async |line: &str| run(server, "buildah", line).await;
        let image = format!("{address}/buildah/built:v1");
        buildah(&format!("login --username {USER} --password {PASSWORD} {address}")).await?;
        buildah("from --name work scratch").await?;
        buildah("copy work ca.crt /ca.crt").await?;
        buildah(&format!("commit work docker://{image}")).await?;
        std::fs::write(server.path("Containerfile"), format!("FROM {image}\nCOPY htpasswd /\n"))?;
        buildah(&format!("bud --isolation chroot --tag {image}-more {}", server.path("").display())).await?;
        buildah(&format!("push {image}-more")).await?;
        let layers = server.run(&format!("crane manifest {image}-more")).await?;
        ensure!(layers.matches("application/vnd.oci.image.layer").count() == 2, "{layers}");
        Ok(())
    })
    .await
}
