//! containerd by its own client. What the kubelet makes of it is tested on the cluster.

use anyhow::ensure;
use e2e::case::Outcome;
use e2e::hello;
use e2e::registry::{PASSWORD, USER};
use e2e::server::{Server, with_server};
use tokio::process::Child;

use crate::crane;

/// Starts a daemon with all its state at home.
pub(crate) async fn daemon(server: &Server) -> anyhow::Result<Child> {
    let address = server.address();
    let hosts = server.path("certs.d").join(&address);
    std::fs::create_dir_all(&hosts)?;
    let authority = server.path("ca.crt");
    let host = format!("server = \"https://{address}\"\nca = \"{}\"\n", authority.display());
    std::fs::write(hosts.join("hosts.toml"), host)?;
    std::fs::write(server.path("containerd.toml"), "version = 3\n")?;
    let script = "exec containerd --config containerd.toml --root $PWD/root --state $PWD/state \
                  --address $PWD/containerd.sock";
    server.daemon("containerd", script, "ctr version").await
}

#[tokio::test]
async fn images_are_pulled_checked_and_pushed() -> Outcome {
    with_server(async |server| {
        let (address, layout) = (server.address(), hello::layout().await?.display());
        let image = format!("{address}/containerd/hello");
        crane::log_in(server).await?;
        server.run(&format!("crane push {layout} {image}:v1")).await?;
        let _daemon = daemon(server).await?;
        let images = async |command: &str, rest: &str| {
            let options = format!("--hosts-dir certs.d --user {USER}:{PASSWORD}");
            server.run(&format!("ctr images {command} {options} {rest}")).await
        };
        let anonymous = format!("ctr images pull --hosts-dir certs.d {image}:v1");
        server.refuses(&anonymous, "authorization failed").await?;
        images("pull", &format!("{image}:v1")).await?;
        let checked = server.run("ctr images check").await?;
        ensure!(checked.contains("complete"), "{checked}");
        server.run(&format!("ctr images tag {image}:v1 {image}:v2")).await?;
        images("push", &format!("{image}:v2")).await?;
        images("push", &format!("{address}/containerd/other:v1 {image}:v1")).await?;
        server.run(&format!("ctr images rm {image}:v1 {image}:v2")).await?;
        images("pull", &format!("{address}/containerd/other:v1")).await?;
        let digests = ["hello:v1", "hello:v2", "other:v1"]
            .map(|name| format!("crane digest {address}/containerd/{name}"));
        let first = server.run(&digests[0]).await?;
        for line in &digests {
            ensure!(server.run(line).await? == first, "{line} is another image");
        }
        Ok(())
    })
    .await
}
