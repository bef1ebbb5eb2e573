//! buildctl and buildkitd: images, and their cache kept in a registry.

use anyhow::ensure;
use e2e::case::Outcome;
use e2e::server::{Server, with_server};
use tokio::process::Child;

use crate::crane;

/// Starts a daemon with all its state at home. To it, localhost means plain HTTP unless it is told otherwise.
async fn daemon(server: &Server) -> anyhow::Result<Child> {
    let trust = format!(
        "[registry.\"{}\"]\n  http = false\n  ca = [\"{}\"]\n",
        server.address(),
        server.path("ca.crt").display()
    );
    std::fs::write(server.path("buildkitd.toml"), trust)?;
    let script = "exec buildkitd --config buildkitd.toml --root $PWD/buildkit --addr unix://$PWD/buildkit.sock \
                  --containerd-worker=false --oci-worker-snapshotter=native --oci-worker-net=host";
    server.daemon("buildkitd", script, "buildctl debug workers").await
}

#[tokio::test]
async fn images_are_built_and_pushed_and_the_cache_is_kept_in_the_registry() -> Outcome {
    with_server(async |server| {
        let address = server.address();
        crane::log_in(server).await?;
        let _daemon = daemon(server).await?;
        std::fs::create_dir(server.path("context"))?;
        std::fs::copy(server.path("ca.crt"), server.path("context/file"))?;
        let stages =
            "FROM scratch AS base\nCOPY file /one\nFROM scratch\nCOPY --from=base /one /two\nLABEL a=b\n";
        std::fs::write(server.path("context/Dockerfile"), stages)?;
        let name = format!("{address}/buildkit/built");
        let rows = [
            ("index", format!("type=registry,ref={name}:a,mode=max,image-manifest=false"), "a"),
            ("manifest", format!("type=registry,ref={name}:b,mode=max,image-manifest=true"), "b"),
            // Within the image itself.
            ("inline", "type=inline".to_owned(), "inline"),
        ];
        for (tag, export, import) in rows {
            let build = format!(
                "buildctl build --progress plain --frontend dockerfile.v0 --local context=context \
                 --local dockerfile=context --output type=image,name={name}:{tag},push=true"
            );
            server.run(&format!("{build} --export-cache {export}")).await?;
            server.run("buildctl prune --all").await?;
            let import = format!("--import-cache type=registry,ref={name}:{import}");
            let log = server.run_for_log(&format!("{build} {import}")).await?;
            ensure!(log.contains("CACHED"), "nothing came from the cache: {log}");
            server.run("buildctl prune --all").await?;
            server.run(&format!("crane validate --remote {name}:{tag}")).await?;
        }
        Ok(())
    })
    .await
}
