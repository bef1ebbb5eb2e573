//! skopeo.

use anyhow::ensure;
use e2e::case::Outcome;
use e2e::hello;
use e2e::registry::{PASSWORD, USER};
use e2e::server::with_server;
use serde_json::Value;

#[tokio::test]
async fn images_are_copied_inspected_listed_synchronised_and_deleted() -> Outcome {
    with_server(async |server| {
        let (address, hello) = (server.address(), hello::for_skopeo().await?);
        let login = format!("skopeo login {address} --username {USER} --password");
        server.refuses(&format!("{login} wrong"), "invalid username/password").await?;
        server.run(&format!("{login} {PASSWORD}")).await?;

        let image = format!("docker://{address}/skopeo/hello");
        server.run(&format!("skopeo copy {hello} {image}:oci")).await?;
        server.run(&format!("skopeo copy --format v2s2 {hello} {image}:docker")).await?;
        server.run(&format!("skopeo copy {image}:oci docker://{address}/skopeo/mounted:v1")).await?;
        server.run(&format!("skopeo copy --all {image}:docker dir:back")).await?;
        let types = ["oci", "docker"].map(|tag| format!("skopeo inspect --raw {image}:{tag}"));
        for (line, media_type) in types.iter().zip(["oci.image.manifest", "distribution.manifest.v2"]) {
            let manifest = server.run(line).await?;
            ensure!(manifest.contains(media_type), "{manifest}");
        }
        let tags: Value = serde_json::from_str(&server.run(&format!("skopeo list-tags {image}")).await?)?;
        ensure!(tags["Tags"] == serde_json::json!(["docker", "oci"]), "{tags}");

        server.run(&format!("skopeo sync --src docker --dest dir {address}/skopeo/hello .")).await?;
        ensure!(server.path("hello:oci/manifest.json").exists(), "not synchronised");
        server.run(&format!("skopeo sync --src dir --dest docker hello:oci {address}/synced")).await?;
        server
            .run(&format!(
                "crane index append --manifest {address}/skopeo/hello:oci --tag {address}/skopeo/hello:index"
            ))
            .await?;
        let other = format!("docker://{address}/skopeo/other:index");
        server.run(&format!("skopeo copy --all {image}:index {other}")).await?;
        server.run(&format!("skopeo delete {image}:docker")).await?;
        server.refuses(&format!("skopeo inspect {image}:docker"), "manifest unknown").await?;
        server.run(&format!("skopeo logout {address}")).await?;
        server.refuses(&format!("skopeo inspect {image}:oci"), "unauthorized").await
    })
    .await
}
