//! Docker: Debian's daemon and its command line.

use anyhow::ensure;
use e2e::case::Outcome;
use e2e::hello;
use e2e::registry::{PASSWORD, USER};
use e2e::server::{Server, with_server};
use tokio::process::Child;

/// Starts a daemon with all its state at home. It must not meet the containerd of the cluster.
pub(crate) async fn daemon(server: &Server) -> anyhow::Result<Child> {
    let script = "PATH=$(dirname $(command -v dockerd))/../bin:$PATH
         exec dockerd --bridge none --iptables=false --ip6tables=false --storage-driver vfs --data-root $PWD/docker \
             --exec-root $PWD/docker/exec --pidfile $PWD/docker.pid --host unix://$PWD/docker.sock";
    server.daemon("dockerd", script, "docker info").await
}

#[tokio::test]
async fn images_are_pushed_pulled_and_gathered() -> Outcome {
    with_server(async |server| {
        let (address, hello) = (server.address(), hello::for_skopeo().await?);
        let _daemon = daemon(server).await?;
        let docker = async |line: &str| server.run(&format!("docker {line}")).await;
        let image = format!("{address}/docker/hello");
        server.run(&format!("skopeo copy {hello} docker-archive:hello.tar:{image}:v1")).await?;
        docker("load --input hello.tar").await?;
        server.refuses(&format!("docker push {image}:v1"), "no basic auth credentials").await?;
        let login = format!("docker login {address} --username {USER} --password");
        server.refuses(&format!("{login} wrong"), "unauthorized").await?;
        server.run(&format!("{login} {PASSWORD}")).await?;

        docker(&format!("push {image}:v1")).await?;
        docker(&format!("tag {image}:v1 {address}/docker/mounted:v1")).await?;
        let pushed = docker(&format!("push {address}/docker/mounted:v1")).await?;
        ensure!(pushed.contains("Mounted from docker/hello"), "{pushed}");
        docker(&format!("tag {image}:v1 {image}:v2")).await?;
        docker(&format!("push --all-tags {image}")).await?;
        docker(&format!("rmi {image}:v1 {image}:v2 {address}/docker/mounted:v1")).await?;
        for name in ["hello", "mounted"] {
            docker(&format!("pull {address}/docker/{name}:v1")).await?;
        }
        docker(&format!("pull --all-tags {image}")).await?;
        docker(&format!("manifest inspect {image}:v1")).await?;
        // What other clients push.
        server.run(&format!("skopeo copy --format oci {hello} docker://{address}/docker/oci:v1")).await?;
        docker(&format!("pull {address}/docker/oci:v1")).await?;
        docker(&format!("logout {address}")).await?;
        server.refuses(&format!("docker pull {image}:v1"), "error response from daemon").await
    })
    .await
}
