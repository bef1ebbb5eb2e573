//! Images are pushed by the tools that people use, over TLS that they verify, by those who may.

use anyhow::{Context as _, ensure};
use e2e::case::{Outcome, with_namespace};
use e2e::forward::Forward;
use e2e::namespace::Namespace;
use e2e::registry::{PASSWORD, USER};
use e2e::tools::{Trust, run_command};
use e2e::{hello, http, registry};
use tokio::process::Command;

/// What a client on this machine needs.
struct Reached {
    forward: Forward,
    trust: Trust,
}

async fn reach(namespace: &Namespace) -> anyhow::Result<Reached> {
    registry::quick(namespace).await?;
    let forward = Forward::open(namespace, registry::NAME).await?;
    let trust = Trust::new(&registry::authorities(namespace, registry::NAME).await?)?;
    Ok(Reached { forward, trust })
}

impl Reached {
    async fn skopeo_push(&self, credentials: &[&str]) -> anyhow::Result<String> {
        let target = format!("docker://{}/skopeo/hello:v1", self.forward.address());
        let source = hello::for_skopeo().await?;
        run_command(self.trust.skopeo_copy("dest").args(credentials).args([source, target])).await
    }

    async fn crane(&self, user: &str, password: &str, arguments: &[&str]) -> anyhow::Result<String> {
        run_command(self.trust.crane(&self.forward.address(), user, password)?.args(arguments)).await
    }
}

#[tokio::test]
async fn skopeo_pushes_and_pulls_the_same_image() -> Outcome {
    with_namespace("skopeo", async |namespace| {
        let reached = reach(namespace).await?;
        let credentials = format!("{USER}:{PASSWORD}");
        reached.skopeo_push(&["--dest-creds", &credentials]).await?;

        let back = tempfile::tempdir()?;
        let source = format!("docker://{}/skopeo/hello:v1", reached.forward.address());
        let target = format!("oci:{}:v1", back.path().display());
        let mut copy = reached.trust.skopeo_copy("src");
        run_command(copy.args(["--src-creds", &credentials, &source, &target])).await?;
        let index = |layout: &std::path::Path| std::fs::read_to_string(layout.join("index.json"));
        assert_eq!(index(back.path())?, index(hello::layout().await?)?);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn crane_pushes_and_reads_the_same_image() -> Outcome {
    with_namespace("crane", async |namespace| {
        let reached = reach(namespace).await?;
        let image = format!("{}/crane/hello:v1", reached.forward.address());
        let layout = hello::layout().await?.display().to_string();
        let pushed = reached.crane(USER, PASSWORD, &["push", &layout, &image]).await?;
        let digest = reached.crane(USER, PASSWORD, &["digest", &image]).await?;
        ensure!(pushed.trim().ends_with(digest.trim()), "pushed {pushed}, found {digest}");
        reached.crane(USER, PASSWORD, &["validate", "--remote", &image]).await?;
        let repository = image.trim_end_matches(":v1");
        assert_eq!(reached.crane(USER, PASSWORD, &["ls", repository]).await?.trim(), "v1");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn helm_pushes_and_pulls_a_chart() -> Outcome {
    with_namespace("helm", async |namespace| {
        let reached = reach(namespace).await?;
        let (directory, address) = (tempfile::tempdir()?, reached.forward.address());
        let home = directory.path().display().to_string();
        let authorities = reached.trust.directory().join("ca.crt").display().to_string();
        let helm = async |arguments: &[&str]| {
            let mut helm = Command::new("helm");
            helm.args(arguments).env("HELM_REGISTRY_CONFIG", format!("{home}/config.json"));
            run_command(helm.current_dir(directory.path())).await
        };
        let chart = format!("{}/../charts/windlass", env!("CARGO_MANIFEST_DIR"));
        helm(&["package", &chart]).await?;
        let login = ["registry", "login", &address, "--username", USER, "--password", PASSWORD];
        helm(&[&login[..], &["--ca-file", &authorities]].concat()).await?;
        let archive = format!("windlass-{}.tgz", env!("CARGO_PKG_VERSION"));
        let charts = format!("oci://{address}/charts");
        helm(&["push", &archive, &charts, "--ca-file", &authorities]).await?;
        let packed = std::fs::read(directory.path().join(&archive))?;
        std::fs::remove_file(directory.path().join(&archive))?;
        helm(&["pull", &format!("{charts}/windlass"), "--ca-file", &authorities]).await?;
        ensure!(std::fs::read(directory.path().join(&archive))? == packed, "another chart came back");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_push_without_the_right_password_is_refused() -> Outcome {
    with_namespace("refused", async |namespace| {
        let reached = reach(namespace).await?;
        let wrong = format!("{USER}:wrong");
        for credentials in
            [&["--dest-creds", &wrong][..], &["--dest-creds", "eve:lovelace"], &["--dest-no-creds"]]
        {
            let error = reached.skopeo_push(credentials).await.err().context("a push was accepted")?;
            let words = format!("{error:?}");
            ensure!(words.contains("authentication required") || words.contains("unauthorized"), "{words}");
        }
        let image = format!("{}/crane/hello:v1", reached.forward.address());
        let layout = hello::layout().await?.display().to_string();
        let error = reached.crane(USER, "wrong", &["push", &layout, &image]).await.err();
        let words = format!("{:?}", error.context("a push was accepted")?);
        ensure!(words.contains("401 Unauthorized"), "{words}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_certificate_sends_nothing() -> Outcome {
    with_namespace("untrusted", async |namespace| {
        let reached = reach(namespace).await?;
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let client = http::Client::trusting(reached.forward.port, &other.cert.pem())?;
        let error = client.get("/v2/").await.err().context("it was trusted")?;
        ensure!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
        Ok(())
    })
    .await
}
