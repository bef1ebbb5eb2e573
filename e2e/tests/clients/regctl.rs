//! regctl (regclient).

use anyhow::ensure;
use e2e::case::Outcome;
use e2e::hello;
use e2e::registry::{PASSWORD, USER};
use e2e::server::{Server, with_server};

const TYPE: &str = "application/vnd.example.report";

async fn logged_in(server: &Server) -> anyhow::Result<String> {
    let address = server.address();
    server.run(&format!("regctl registry set {address} --skip-check --cacert ca.crt")).await?;
    server.run(&format!("regctl registry login {address} --user {USER} --pass {PASSWORD}")).await?;
    let layout = hello::layout().await?.display();
    server.run(&format!("regctl image copy ocidir://{layout}:v1 {address}/regctl/hello:v1")).await?;
    Ok(address)
}

#[tokio::test]
async fn images_are_copied_changed_listed_and_deleted() -> Outcome {
    with_server(async |server| {
        let address = logged_in(server).await?;
        let image = format!("{address}/regctl/hello");
        for read in ["manifest get", "manifest head", "image digest", "image config", "image inspect"] {
            server.run(&format!("regctl {read} {image}:v1")).await?;
        }
        server.run(&format!("regctl image mod {image}:v1 --create v2 --label a=b")).await?;
        server.run(&format!("regctl index create {image}:all --ref {image}:v1 --ref {image}:v2")).await?;
        server.run(&format!("regctl image copy {image}:all {address}/regctl/copied:all")).await?;
        server.run(&format!("regctl image export {image}:v1 hello.tar")).await?;
        server.run(&format!("regctl image import {address}/regctl/imported:v1 hello.tar")).await?;
        server.run(&format!("regctl tag delete {image}:v2")).await?;
        let tags = server.run(&format!("regctl tag ls {image}")).await?;
        ensure!(tags.split_whitespace().eq(["all", "v1"]), "{tags}");
        let names = server.run(&format!("regctl repo ls {address}")).await?;
        let expected = ["regctl/copied", "regctl/hello", "regctl/imported"];
        ensure!(names.split_whitespace().eq(expected), "{names}");
        server.run(&format!("regctl manifest delete {image}:v1 --force-tag-dereference")).await?;
        server.refuses(&format!("regctl manifest head {image}:v1"), "not found").await
    })
    .await
}

#[tokio::test]
async fn blobs_of_either_digest_are_put_got_and_deleted() -> Outcome {
    with_server(async |server| {
        let name = format!("{}/regctl/blobs", logged_in(server).await?);
        for algorithm in ["sha256", "sha512"] {
            let sum = server.run(&format!("{algorithm}sum ca.crt")).await?;
            let digest = format!("{algorithm}:{}", sum.split_whitespace().next().unwrap_or_default());
            let mut put = server.command(&format!("regctl blob put --digest {digest} {name}"));
            put.stdin(std::fs::File::open(server.path("ca.crt"))?);
            e2e::tools::run_command(&mut put).await?;
            server.run(&format!("regctl blob head {name} {digest}")).await?;
            let got = server.run(&format!("regctl blob get {name} {digest}")).await?;
            ensure!(got == std::fs::read_to_string(server.path("ca.crt"))?);
            server.run(&format!("regctl blob delete {name} {digest}")).await?;
            server.refuses(&format!("regctl blob head {name} {digest}"), "not found").await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn images_are_changed_to_sha512_and_copied() -> Outcome {
    with_server(async |server| {
        let address = logged_in(server).await?;
        let (image, copy) = (format!("{address}/regctl/hello"), format!("{address}/regctl/copy:v2"));
        server.run(&format!("regctl image mod {image}:v1 --digest-algo sha512 --create v2")).await?;
        server.run(&format!("regctl image copy {image}:v2 {copy}")).await?;
        let digest = server.run(&format!("regctl image digest {image}:v2")).await?;
        ensure!(digest.starts_with("sha512:"), "{digest}");
        ensure!(server.run(&format!("regctl image digest {copy}")).await? == digest);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn artifacts_are_found_by_their_subject_and_go_along_with_a_copy() -> Outcome {
    with_server(async |server| {
        let address = logged_in(server).await?;
        let (image, copy) = (format!("{address}/regctl/hello:v1"), format!("{address}/regctl/copy:v1"));
        let put =
            format!("regctl artifact put --file ca.crt --file-media-type text/plain --artifact-type {TYPE}");
        server.run(&format!("{put} --subject {image}")).await?;
        server.run(&format!("{put} {address}/regctl/artifact:v1")).await?;
        let got = server.run(&format!("regctl artifact get {address}/regctl/artifact:v1")).await?;
        ensure!(got == std::fs::read_to_string(server.path("ca.crt"))?);
        server.run(&format!("regctl image copy --referrers {image} {copy}")).await?;
        for subject in [image, copy] {
            let listed = server.run(&format!("regctl artifact list --format body {subject}")).await?;
            ensure!(listed.contains(TYPE), "{subject}: {listed}");
            let tree = server.run(&format!("regctl artifact tree {subject}")).await?;
            ensure!(tree.contains(TYPE), "{subject}: {tree}");
            let tags = server.run(&format!("regctl tag ls {}", subject.trim_end_matches(":v1"))).await?;
            ensure!(tags.trim() == "v1", "tags stand in for the referrers API: {tags}");
        }
        Ok(())
    })
    .await
}
