//! Pods run images from a Registry: pulled by the kubelet, under the in-cluster name, by those who may.

use anyhow::{Context as _, ensure};
use e2e::case::{Outcome, with_namespace};
use e2e::namespace::Namespace;
use e2e::registry::{NAME, PASSWORD, USER, USERS};
use e2e::tools::{Trust, run_command};
use e2e::{forward, hello, node_access, registry, wait};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, ServiceAccount};
use kube::api::{LogParams, PostParams};
use serde_json::{Map, Value, json};
use tokio::process::Command;

/// Name of the pull secret.
pub(crate) const PULL_SECRET: &str = "pull";
/// Where the image is.
pub(crate) const REPOSITORY: &str = "team/hello";

/// Pushes the image to the Registry [`NAME`].
pub(crate) async fn push_hello(
    namespace: &Namespace,
    repository: &str,
    password: &str,
) -> anyhow::Result<()> {
    let trust = Trust::new(&registry::authorities(namespace, NAME).await?)?;
    push(namespace, trust.skopeo_copy("dest"), repository, password).await
}

/// The same for a Registry without TLS.
pub(crate) async fn push_hello_plainly(
    namespace: &Namespace,
    repository: &str,
    password: &str,
) -> anyhow::Result<()> {
    let mut copy = Command::new("skopeo");
    copy.args(["copy", "--quiet", "--dest-tls-verify=false"]);
    push(namespace, copy, repository, password).await
}

async fn push(
    namespace: &Namespace,
    mut copy: Command,
    repository: &str,
    password: &str,
) -> anyhow::Result<()> {
    let forward = forward::Forward::open(namespace, NAME).await?;
    let target = format!("docker://{}/{repository}:v1", forward.address());
    copy.args(["--dest-creds", &format!("{USER}:{password}"), &hello::for_skopeo().await?, &target]);
    run_command(&mut copy).await?;
    Ok(())
}

async fn pull_secret(namespace: &Namespace, password: &str) -> anyhow::Result<()> {
    secret_for(namespace, &[format!("{NAME}.{}.svc:5000", namespace.name)], password).await
}

/// Makes a pull secret for images under each of `hosts`.
pub(crate) async fn secret_for(
    namespace: &Namespace,
    hosts: &[String],
    password: &str,
) -> anyhow::Result<()> {
    let login = json!({"username": USER, "password": password});
    let logins: Map<String, Value> = hosts.iter().map(|host| (host.clone(), login.clone())).collect();
    let configuration = json!({ "auths": logins });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": PULL_SECRET},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": configuration.to_string()},
    });
    namespace.apply(secret).await?;
    Ok(())
}

/// What a Pod runs, and where; what is left out is the usual.
#[derive(Clone, Copy, Default)]
pub(crate) struct Image<'a> {
    /// Under which host the image is named.
    pub(crate) host: Option<&'a str>,
    /// Where it is.
    pub(crate) repository: Option<&'a str>,
    /// On which node it runs.
    pub(crate) node: Option<&'a str>,
}

/// Starts the Pod `pod` from the image.
pub(crate) async fn start(namespace: &Namespace, pod: &str, pull_secrets: &[&str]) -> anyhow::Result<()> {
    start_image(namespace, pod, Image::default(), pull_secrets).await
}

pub(crate) async fn start_from(
    namespace: &Namespace,
    repository: &str,
    pod: &str,
    pull_secrets: &[&str],
) -> anyhow::Result<()> {
    let image = Image { repository: Some(repository), ..Image::default() };
    start_image(namespace, pod, image, pull_secrets).await
}

/// Starts the Pod `pod` from `image`.
pub(crate) async fn start_image(
    namespace: &Namespace,
    pod: &str,
    image: Image<'_>,
    pull_secrets: &[&str],
) -> anyhow::Result<()> {
    let service = format!("{NAME}.{}.svc:5000", namespace.name);
    let (host, repository) = (image.host.unwrap_or(&service), image.repository.unwrap_or(REPOSITORY));
    let secrets: Vec<_> = pull_secrets.iter().map(|name| json!({"name": name})).collect();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod},
        "spec": {
            "restartPolicy": "Never",
            "imagePullSecrets": secrets,
            "containers": [{
                "name": "hello",
                "image": format!("{host}/{repository}:v1"),
                // What a node may have kept is not what is tested.
                "imagePullPolicy": "Always",
            }],
        },
    });
    if let Some(node) = image.node {
        pod["spec"]["nodeName"] = json!(node);
    }
    namespace.apply(pod).await?;
    Ok(())
}

/// A token of a `ServiceAccount` of the namespace, for the audience.
pub(crate) async fn token(namespace: &Namespace, account: &str, audience: &str) -> anyhow::Result<String> {
    let spec = TokenRequestSpec { audiences: vec![audience.to_owned()], ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let accounts = namespace.api::<ServiceAccount>();
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    Ok(answer.status.context("no token")?.token)
}

/// Waits until the Pod `pod` has done what it is for.
pub(crate) async fn ends_well(namespace: &Namespace, pod: &str) -> anyhow::Result<()> {
    let ended =
        |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Succeeded"));
    wait::until(&namespace.api::<Pod>(), pod, "it to end well", ended).await?;
    let log = namespace.api::<Pod>().logs(pod, &LogParams::default()).await?;
    ensure!(log.starts_with(&format!("Hello from {pod}")), "it wrote: {log}");
    Ok(())
}

/// Waits until the pull of the Pod `pod` has failed, and returns what the kubelet says of it.
pub(crate) async fn fails(namespace: &Namespace, pod: &str) -> anyhow::Result<String> {
    let waiting = |container: &ContainerStatus| container.state.as_ref()?.waiting.clone();
    let message = |pod: &Pod| {
        let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
        let waiting = waiting(containers.first()?)?;
        (waiting.reason.as_deref() == Some("ErrImagePull")).then(|| waiting.message.unwrap_or_default())
    };
    let pod = wait::until(&namespace.api(), pod, "its pull to fail", |pod| message(pod).is_some()).await?;
    Ok(message(&pod).unwrap_or_default())
}

/// Why a pull is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    /// There are no credentials, or wrong ones.
    Unknown,
    /// The credentials are right and do not give the right.
    Forbidden,
}

/// Waits until the pull of the Pod `pod` is refused, and checks that the kubelet says for what reason.
pub(crate) async fn is_refused(namespace: &Namespace, pod: &str, refusal: Refusal) -> anyhow::Result<()> {
    let words = fails(namespace, pod).await?;
    let expected: &[&str] = match refusal {
        // In containerd's own words, unless it has tried other credentials before.
        Refusal::Unknown => &["401 Unauthorized", "authorization failed"],
        Refusal::Forbidden => &["403 Forbidden"],
    };
    ensure!(expected.iter().any(|expected| words.contains(expected)), "{refusal:?}: {words}");
    Ok(())
}

/// Gives a Registry that `quick` has made an image for Pods, and its namespace what they need to pull it.
pub(crate) async fn ready_for_pods(namespace: &Namespace) -> anyhow::Result<()> {
    push_hello(namespace, REPOSITORY, PASSWORD).await?;
    node_access::grant(namespace, NAME).await?;
    pull_secret(namespace, PASSWORD).await
}

/// Runs the Pod `pod` from that image to its good end.
pub(crate) async fn a_pod_runs(namespace: &Namespace, pod: &str) -> anyhow::Result<()> {
    start(namespace, pod, &[PULL_SECRET]).await?;
    ends_well(namespace, pod).await
}

#[tokio::test]
async fn the_kubelet_pulls_with_a_pull_secret_and_not_without() -> Outcome {
    with_namespace("pull", async |namespace| {
        registry::quick(namespace).await?;
        push_hello(namespace, REPOSITORY, PASSWORD).await?;
        node_access::grant(namespace, NAME).await?;

        start(namespace, "stranger", &[]).await?;
        is_refused(namespace, "stranger", Refusal::Unknown).await?;
        pull_secret(namespace, "wrong").await?;
        start(namespace, "mistaken", &[PULL_SECRET]).await?;
        is_refused(namespace, "mistaken", Refusal::Unknown).await?;
        pull_secret(namespace, PASSWORD).await?;
        start(namespace, "friend", &[PULL_SECRET]).await?;
        ends_well(namespace, "friend").await
    })
    .await
}

#[tokio::test]
async fn everybody_pulls_and_only_users_push_where_that_is_asked_for() -> Outcome {
    with_namespace("anonymous", async |namespace| {
        let mut spec = registry::spec();
        spec["auth"]["anonymous"] = json!("Pull");
        registry::apply_users(namespace, USERS, &[(USER, PASSWORD)]).await?;
        registry::apply(namespace, NAME, spec).await?;
        registry::ready(namespace, NAME).await?;
        push_hello(namespace, REPOSITORY, PASSWORD).await?;

        let (_forward, anybody) = registry::reach(namespace, NAME).await?;
        let refused = e2e::oci::push(&anybody, "team/hello", "v2", "layer").await;
        ensure!(format!("{refused:?}").contains("401 Unauthorized"), "{refused:?}");
        node_access::grant(namespace, NAME).await?;
        start(namespace, "stranger", &[]).await?;
        ends_well(namespace, "stranger").await
    })
    .await
}

#[tokio::test]
async fn rules_decide_which_images_a_pod_may_pull() -> Outcome {
    with_namespace("rules", async |namespace| {
        let mut spec = registry::spec();
        spec["auth"]["rules"] = json!([
            {"subjects": [{"kind": "User", "name": USER}], "repositories": ["**"], "actions": ["pull", "push"]},
            {"subjects": [{"kind": "Anonymous"}], "repositories": ["public/*"], "actions": ["pull"]},
        ]);
        registry::apply_users(namespace, USERS, &[(USER, PASSWORD)]).await?;
        registry::apply(namespace, NAME, spec).await?;
        registry::ready(namespace, NAME).await?;
        for repository in ["public/hello", REPOSITORY] {
            push_hello(namespace, repository, PASSWORD).await?;
        }
        node_access::grant(namespace, NAME).await?;
        pull_secret(namespace, PASSWORD).await?;

        start_from(namespace, "public/hello", "stranger", &[]).await?;
        ends_well(namespace, "stranger").await?;
        start(namespace, "intruder", &[]).await?;
        is_refused(namespace, "intruder", Refusal::Unknown).await?;
        start(namespace, "friend", &[PULL_SECRET]).await?;
        ends_well(namespace, "friend").await
    })
    .await
}
