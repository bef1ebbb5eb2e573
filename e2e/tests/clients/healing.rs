//! A volume that a power failure or a broken disk has left with files that are empty or cut short heals when images are
//! pushed again.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use e2e::case::Outcome;
use e2e::hello;
use e2e::server::with_server;

use crate::crane;

/// All files in which the server keeps bytes.
fn blobs(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(blobs(&path)?);
        } else if path.ends_with("data") {
            found.push(path);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn clients_that_ask_for_a_blob_first_push_it_again_when_its_file_is_empty_or_cut_short() -> Outcome {
    with_server(async |server| {
        let (address, layout) = (server.address(), hello::layout().await?.display());
        let image = format!("{address}/heal/hello:v1");
        crane::log_in(server).await?;
        server.run(&format!("regctl registry set {address} --skip-check --cacert ca.crt")).await?;
        for push in [
            format!("crane push {layout} {image}"),
            format!("skopeo copy oci:{layout}:v1 docker://{image}"),
            format!("regctl image copy --force-recursive ocidir://{layout}:v1 {image}"),
        ] {
            server.run(&push).await?;
            for is_cut_short in [false, true] {
                for path in blobs(&server.path("registry"))? {
                    let file = File::options().write(true).open(path)?;
                    file.set_len(if is_cut_short { file.metadata()?.len() / 2 } else { 0 })?;
                }
                let pulled = server.run(&format!("crane pull {image} pulled")).await;
                ensure!(pulled.is_err(), "nothing was damaged");
                if is_cut_short {
                    // That something is missing is found out by the manifest alone.
                    server.refuses(&push, "manifest").await?;
                }
                server.run(&push).await?;
                server.run(&format!("crane validate --remote {image}")).await?;
            }
        }
        Ok(())
    })
    .await
}
