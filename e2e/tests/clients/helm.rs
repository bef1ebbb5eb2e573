//! Helm: charts in a registry.

use anyhow::ensure;
use e2e::case::Outcome;
use e2e::registry::{PASSWORD, USER};
use e2e::server::with_server;

#[tokio::test]
async fn charts_are_pushed_pulled_shown_rendered_and_depended_on() -> Outcome {
    with_server(async |server| {
        let address = server.address();
        let charts = format!("oci://{address}/charts");
        let windlass = format!("{}/../charts/windlass", env!("CARGO_MANIFEST_DIR"));
        let login = format!("helm registry login {address} --username {USER} --password");
        server.refuses(&format!("{login} wrong"), "unauthorized").await?;
        server.run(&format!("{login} {PASSWORD}")).await?;
        std::fs::create_dir(server.path("back"))?;
        // A tag cannot hold a plus.
        for version in ["1.2.3", "1.2.4+build.5"] {
            server.run(&format!("helm package {windlass} --version {version}")).await?;
            // What proves where it comes from is pushed along.
            std::fs::write(server.path(&format!("windlass-{version}.tgz.prov")), version)?;
            server.run(&format!("helm push windlass-{version}.tgz {charts}")).await?;
            let packed = std::fs::read(server.path(&format!("windlass-{version}.tgz")))?;
            server
                .run(&format!("helm pull {charts}/windlass --version {version} --destination back"))
                .await?;
            let pulled = std::fs::read(server.path(&format!("back/windlass-{version}.tgz")))?;
            ensure!(packed == pulled, "another chart came back");
        }
        let shown = server.run(&format!("helm show chart {charts}/windlass")).await?;
        ensure!(shown.contains("version: 1.2.4+build.5"), "not the latest: {shown}");
        server.run(&format!("helm template windlass {charts}/windlass --version 1.2.3")).await?;

        std::fs::create_dir(server.path("parent"))?;
        let parent = format!(
            "apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies:\n\
             - {{name: windlass, version: ~1.2.0, repository: \"{charts}\"}}\n"
        );
        std::fs::write(server.path("parent/Chart.yaml"), parent)?;
        server.run("helm dependency update parent").await?;
        ensure!(server.path("parent/charts/windlass-1.2.4+build.5.tgz").exists(), "not the latest");
        server.run(&format!("helm registry logout {address}")).await?;
        server
            .refuses(&format!("helm pull {charts}/windlass --version 1.2.3"), "basic credential not found")
            .await
    })
    .await
}
