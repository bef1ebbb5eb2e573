//! cosign: signatures and attestations in their new form, a bundle that refers to the image, and in the old one, a tag.
//! No service is asked: the key is a file, and nothing goes to a transparency log.

use anyhow::ensure;
use e2e::case::Outcome;
use e2e::hello;
use e2e::registry::{PASSWORD, USER};
use e2e::server::{Server, with_server};

const SIGN: &str = "--key cosign.key --use-signing-config=false --tlog-upload=false --yes";
const VERIFY: &str = "--key cosign.pub --insecure-ignore-tlog";

/// Pushes an image and makes a key; gives the image's name by digest.
async fn pushed(server: &Server) -> anyhow::Result<String> {
    let (address, layout) = (server.address(), hello::layout().await?.display());
    server.run(&format!("cosign login {address} --username {USER} --password {PASSWORD}")).await?;
    server.run(&format!("crane push {layout} {address}/cosign/hello:v1")).await?;
    let digest = server.run(&format!("crane digest {address}/cosign/hello:v1")).await?;
    cosign(server, "generate-key-pair").await?;
    std::fs::write(server.path("predicate.json"), "{\"tested\": true}")?;
    Ok(format!("{address}/cosign/hello@{}", digest.trim()))
}

async fn cosign(server: &Server, line: &str) -> anyhow::Result<String> {
    let mut command = server.command(&format!("cosign {line}"));
    e2e::tools::run_command(command.env("COSIGN_PASSWORD", "")).await
}

async fn signed_verified_and_attested(form: &str, tags: usize) -> Outcome {
    with_server(async |server| {
        let image = pushed(server).await?;
        cosign(server, &format!("sign {SIGN} --new-bundle-format={form} {image}")).await?;
        let attest = format!("attest {SIGN} --new-bundle-format={form} --predicate predicate.json");
        cosign(server, &format!("{attest} --type custom {image}")).await?;
        let verify = format!("verify {VERIFY} --new-bundle-format={form} {image}");
        let verified = cosign(server, &verify).await?;
        ensure!(verified.contains("critical") || verified.contains("subject"), "{verified}");
        let attested =
            format!("verify-attestation {VERIFY} --new-bundle-format={form} --type custom {image}");
        ensure!(cosign(server, &attested).await?.contains("payload"), "no attestation");
        let tree = cosign(server, &format!("tree {image}")).await?;
        ensure!(tree.contains("sha256"), "{tree}");
        let name = image.split('@').next().unwrap_or_default();
        let made = server.run(&format!("crane ls {name}")).await?;
        ensure!(made.lines().filter(|tag| tag.starts_with("sha256-")).count() == tags, "{made}");
        cosign(server, "generate-key-pair --output-key-prefix other").await?;
        let by_another = verify.replace("cosign.pub", "other.pub");
        ensure!(cosign(server, &by_another).await.is_err(), "signed by one key, verified by another");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn bundles_are_signed_verified_and_attested() -> Outcome {
    signed_verified_and_attested("true", 0).await
}

#[tokio::test]
async fn signatures_under_tags_are_signed_verified_and_attested() -> Outcome {
    signed_verified_and_attested("false", 2).await
}

#[tokio::test]
async fn signatures_under_tags_are_downloaded_copied_and_removed() -> Outcome {
    with_server(async |server| {
        let image = pushed(server).await?;
        cosign(server, &format!("sign {SIGN} --new-bundle-format=false {image}")).await?;
        let signature = cosign(server, &format!("download signature {image}")).await?;
        ensure!(signature.contains("Base64Signature"), "{signature}");
        let copy = format!("{}/cosign/copy", server.address());
        cosign(server, &format!("copy {image} {copy}:v1")).await?;
        let verify = format!("verify {VERIFY} --new-bundle-format=false");
        cosign(server, &format!("{verify} {copy}:v1")).await?;
        cosign(server, &format!("save --dir saved {image}")).await?;
        cosign(server, &format!("load --dir saved {copy}:loaded")).await?;
        cosign(server, &format!("{verify} {copy}:loaded")).await?;
        cosign(server, &format!("attach sbom --sbom predicate.json {image}")).await?;
        let attached = cosign(server, &format!("download sbom {image}")).await?;
        ensure!(attached.contains("tested"), "{attached}");
        cosign(server, &format!("clean --force {image}")).await?;
        ensure!(cosign(server, &format!("{verify} {image}")).await.is_err(), "the signature is still there");
        Ok(())
    })
    .await
}
