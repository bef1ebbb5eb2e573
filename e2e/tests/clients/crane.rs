//! crane (go-containerregistry).

use anyhow::ensure;
use e2e::case::Outcome;
use e2e::hello;
use e2e::registry::{PASSWORD, USER};
use e2e::server::{Server, with_server};

/// Keeps the password where all clients look for it that read Docker's settings.
pub(crate) async fn log_in(server: &Server) -> anyhow::Result<()> {
    let address = server.address();
    server.run(&format!("crane auth login {address} --username {USER} --password {PASSWORD}")).await?;
    Ok(())
}

#[tokio::test]
async fn images_are_pushed_read_changed_copied_and_deleted() -> Outcome {
    with_server(async |server| {
        let (address, layout) = (server.address(), hello::layout().await?.display());
        let image = format!("{address}/crane/hello:v1");
        log_in(server).await?;
        let pushed = server.run(&format!("crane push {layout} {image}")).await?;
        let digest = server.run(&format!("crane digest {image}")).await?;
        ensure!(pushed.trim().ends_with(digest.trim()), "pushed {pushed}, found {digest}");
        for read in ["manifest", "config", "validate --remote"] {
            server.run(&format!("crane {read} {image}")).await?;
        }
        server.run(&format!("crane pull --format oci {image} back")).await?;
        let again = server.run(&format!("crane push back {address}/crane/again:v1")).await?;
        ensure!(again.trim().ends_with(digest.trim()), "pulled and pushed {again}, not {digest}");
        changed(server, &image).await?;
        copied_and_listed(server, &image).await?;
        server.run(&format!("crane delete {address}/crane/hello@{}", digest.trim())).await?;
        server.refuses(&format!("crane manifest {image}"), "manifest_unknown").await
    })
    .await
}

/// Adds a layer and labels; blobs that are there already are not sent again.
async fn changed(server: &Server, image: &str) -> anyhow::Result<()> {
    server.run("tar --create --file layer.tar ca.crt").await?;
    server.run(&format!("crane append --base {image} --new_layer layer.tar --new_tag {image}-more")).await?;
    server.run(&format!("crane mutate {image}-more --label a=b --tag {image}-label")).await?;
    let rebase = format!("crane rebase {image}-more --old_base {image} --new_base {image}-label");
    server.run(&format!("{rebase} --tag {image}-rebased")).await?;
    server.run(&format!("crane flatten {image}-label --tag {image}-flat")).await?;
    let exported = server.run(&format!("crane export {image}-flat -")).await?;
    ensure!(exported.contains("BEGIN CERTIFICATE"), "the added layer is missing");
    Ok(())
}

async fn copied_and_listed(server: &Server, image: &str) -> anyhow::Result<()> {
    let address = server.address();
    let other = format!("{address}/crane/other");
    server.run(&format!("crane copy {image} {other}:v1")).await?;
    server.run(&format!("crane tag {other}:v1 v2")).await?;
    server.run(&format!("crane copy --all-tags {other} {address}/crane/all")).await?;
    let platforms =
        format!("crane index append --manifest {other}:v1 --manifest {image}-more --tag {other}:all");
    server.run(&platforms).await?;
    server.run(&format!("crane copy {other}:all {address}/crane/copied:all")).await?;
    server.run(&format!("crane validate --remote {address}/crane/copied:all")).await?;
    let tags = server.run(&format!("crane ls {other}")).await?;
    ensure!(tags.split_whitespace().eq(["all", "v1", "v2"]), "{tags}");
    let names = server.run(&format!("crane catalog {address}")).await?;
    let expected = ["crane/again", "crane/all", "crane/copied", "crane/hello", "crane/other"];
    ensure!(names.split_whitespace().eq(expected), "{names}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_served_without_the_password() -> Outcome {
    with_server(async |server| {
        let (address, layout) = (server.address(), hello::layout().await?.display());
        for line in
            [format!("crane push {layout} {address}/crane/hello:v1"), format!("crane catalog {address}")]
        {
            server.refuses(&line, "unauthorized").await?;
        }
        Ok(())
    })
    .await
}
