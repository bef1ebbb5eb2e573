//! oras: artifacts, and what is attached to them.

use anyhow::ensure;
use e2e::case::Outcome;
use e2e::hello;
use e2e::registry::{PASSWORD, USER};
use e2e::server::{Server, with_server};
use serde_json::Value;

const TYPE: &str = "application/vnd.example.report";

async fn logged_in(server: &Server) -> anyhow::Result<String> {
    let address = server.address();
    // To oras, localhost means plain HTTP unless it is told otherwise.
    let login = format!("oras login {address} --plain-http=false --username {USER} --password");
    server.refuses(&format!("{login} wrong"), "unauthorized").await?;
    server.run(&format!("{login} {PASSWORD}")).await?;
    Ok(address)
}

#[tokio::test]
async fn artifacts_are_pushed_pulled_tagged_listed_and_deleted() -> Outcome {
    with_server(async |server| {
        let artifact = format!("{}/oras/artifact", logged_in(server).await?);
        std::fs::write(server.path("report.txt"), "all is well")?;
        let oras = async |command: &str, rest: &str| {
            server.run(&format!("oras {command} --plain-http=false {rest}")).await
        };
        oras("push", &format!("{artifact}:v1 --artifact-type {TYPE} report.txt:text/plain")).await?;
        oras("push", &format!("{artifact}:nothing --artifact-type {TYPE}")).await?;
        oras("tag", &format!("{artifact}:v1 v2 v3")).await?;
        std::fs::remove_file(server.path("report.txt"))?;
        oras("pull", &format!("{artifact}:v3")).await?;
        ensure!(std::fs::read_to_string(server.path("report.txt"))? == "all is well");
        let manifest = oras("manifest fetch", &format!("{artifact}:v1")).await?;
        ensure!(manifest.contains(TYPE), "{manifest}");
        std::fs::write(server.path("manifest.json"), manifest)?;
        oras("manifest push", &format!("{artifact}:again manifest.json")).await?;
        oras("manifest index create", &format!("{artifact}:index v1 nothing")).await?;
        let tags = oras("repo tags", &artifact).await?;
        ensure!(tags.split_whitespace().eq(["again", "index", "nothing", "v1", "v2", "v3"]), "{tags}");
        let names = oras("repo ls", &server.address()).await?;
        ensure!(names.trim() == "oras/artifact", "{names}");
        oras("manifest delete", &format!("--force {artifact}:nothing")).await?;
        server.refuses(&format!("oras resolve --plain-http=false {artifact}:nothing"), "not found").await
    })
    .await
}

#[tokio::test]
async fn blobs_are_pushed_fetched_and_deleted() -> Outcome {
    with_server(async |server| {
        let name = format!("{}/oras/blobs", logged_in(server).await?);
        let pushed =
            server.run(&format!("oras blob push --plain-http=false --descriptor {name} ca.crt")).await?;
        let pushed: Value = serde_json::from_str(&pushed)?;
        let blob = format!("{name}@{}", pushed["digest"].as_str().unwrap_or_default());
        let fetched = server.run(&format!("oras blob fetch --plain-http=false --output - {blob}")).await?;
        ensure!(fetched == std::fs::read_to_string(server.path("ca.crt"))?);
        server.run(&format!("oras blob delete --plain-http=false --force {blob}")).await?;
        server.refuses(&format!("oras blob fetch --plain-http=false --output - {blob}"), "not found").await
    })
    .await
}

#[tokio::test]
async fn what_was_attached_is_discovered_and_goes_along_with_copies() -> Outcome {
    with_server(async |server| {
        let address = logged_in(server).await?;
        let (image, copy) = (format!("{address}/oras/hello:v1"), format!("{address}/oras/copy:v1"));
        let layout = hello::layout().await?.display();
        server.run(&format!("oras copy --from-oci-layout {layout}:v1 --to-plain-http=false {image}")).await?;
        std::fs::write(server.path("report.txt"), "all is well")?;
        let attach = format!("oras attach --plain-http=false {image} report.txt:text/plain --artifact-type");
        server.run(&format!("{attach} {TYPE}")).await?;
        server.run(&format!("{attach} application/vnd.example.other")).await?;
        let backup = "oras backup --plain-http=false --include-referrers --output backup.tar";
        server.run(&format!("{backup} {image}")).await?;
        let restored = format!("{address}/oras/restored:v1");
        server.run(&format!("oras restore --plain-http=false --input backup.tar {restored}")).await?;
        let plain = "--from-plain-http=false --to-plain-http=false";
        server.run(&format!("oras copy --recursive {plain} {image} {copy}")).await?;
        for subject in [image, copy, restored] {
            let discover = format!("oras discover --plain-http=false --format json {subject}");
            for (filter, count) in [(String::new(), 2), (format!(" --artifact-type {TYPE}"), 1)] {
                let found: Value = serde_json::from_str(&server.run(&format!("{discover}{filter}")).await?)?;
                let referrers = found["referrers"].as_array().map_or(0, Vec::len);
                ensure!(referrers == count, "{subject}: {found}");
            }
            let name = subject.trim_end_matches(":v1");
            let tags = server.run(&format!("oras repo tags --plain-http=false {name}")).await?;
            ensure!(tags.trim() == "v1", "tags stand in for the referrers API: {tags}");
        }
        Ok(())
    })
    .await
}
