//! Where everybody may pull, clients that know no password do.

use e2e::case::Outcome;
use e2e::hello;
use e2e::registry::{PASSWORD, USER};
use e2e::server::{Server, with_settings};
use serde_json::json;

use crate::{containerd, crane, docker, podman};

/// Pushes an image and a chart, and forgets the password.
async fn pushed(server: &Server) -> anyhow::Result<String> {
    let (address, layout) = (server.address(), hello::layout().await?.display());
    crane::log_in(server).await?;
    server.run(&format!("crane push {layout} {address}/open/hello:v1")).await?;
    server
        .run(&format!("helm package {}/../charts/windlass --version 1.2.3", env!("CARGO_MANIFEST_DIR")))
        .await?;
    server.run(&format!("helm push windlass-1.2.3.tgz oci://{address}/open")).await?;
    server.run(&format!("crane auth logout {address}")).await?;
    Ok(address)
}

#[tokio::test]
async fn everybody_pulls_and_nobody_pushes() -> Outcome {
    with_settings(json!({"access": {"anonymous": "pull"}}), async |server| {
        let address = pushed(server).await?;
        let image = format!("{address}/open/hello:v1");
        server.run(&format!("regctl registry set {address} --skip-check --cacert ca.crt")).await?;
        for line in [
            format!("crane pull {image} hello.tar"),
            format!("crane catalog {address}"),
            format!("helm pull oci://{address}/open/windlass --version 1.2.3"),
            format!("oras copy --from-plain-http=false {image} --to-oci-layout copied:v1"),
            format!("regctl image copy {image} ocidir://copied-too:v1"),
            format!("skopeo copy docker://{image} dir:copied-again"),
        ] {
            server.run(&line).await?;
        }
        for program in ["podman", "buildah"] {
            podman::run(server, program, &format!("pull {image}")).await?;
        }
        let _containerd = containerd::daemon(server).await?;
        server.run(&format!("ctr images pull --hosts-dir certs.d {image}")).await?;
        server.refuses(&format!("crane tag {image} v2"), "unauthorized").await
    })
    .await
}

/// Docker gives up when it is asked for a password at `/v2/` and has none, and that it must be: it would never send one.
#[tokio::test]
async fn docker_does_not_even_try_without_a_password() -> Outcome {
    with_settings(json!({"access": {"anonymous": "pull"}}), async |server| {
        let address = pushed(server).await?;
        let _daemon = docker::daemon(server).await?;
        server.refuses(&format!("docker pull {address}/open/hello:v1"), "error response from daemon").await?;
        server.run(&format!("docker login {address} --username {USER} --password {PASSWORD}")).await?;
        server.run(&format!("docker pull {address}/open/hello:v1")).await?;
        Ok(())
    })
    .await
}
