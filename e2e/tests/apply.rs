//! Applying a second time what was applied before changes nothing, also after the operator has worked on it.

use std::path::Path;

use anyhow::ensure;
use e2e::case::{Outcome, with_namespace};
use e2e::namespace::Namespace;
use e2e::registry::{self, NAME};
use e2e::tools::run;
use e2e::wait;
use operator::api::garbage_collection_policy::GarbageCollectionPolicy;
use operator::api::status::READY;

/// The examples that are objects of the API.
fn examples() -> anyhow::Result<Vec<String>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path.display().to_string());
        }
    }
    ensure!(files.len() > 1, "no examples were found");
    Ok(files)
}

async fn kubectl(namespace: &Namespace, verb: &[&str], files: &[String]) -> anyhow::Result<String> {
    let mut arguments = vec!["--namespace", &namespace.name];
    arguments.extend(verb);
    arguments.extend(files.iter().flat_map(|file| ["--filename", file.as_str()]));
    run("kubectl", &arguments).await
}

/// Names and versions of all objects of the examples.
async fn versions(namespace: &Namespace, files: &[String]) -> anyhow::Result<String> {
    let columns = "custom-columns=KIND:.kind,NAME:.metadata.name,VERSION:.metadata.resourceVersion";
    kubectl(namespace, &["get", "--output", columns], files).await
}

async fn is_applied_once(namespace: &Namespace, mode: &[&str]) -> anyhow::Result<()> {
    let files = examples()?;
    let apply = [&["apply"], mode].concat();
    kubectl(namespace, &apply, &files).await?;
    registry::ready(namespace, NAME).await?;
    let is_ready = |policy: &GarbageCollectionPolicy| {
        let ready = policy.status.as_ref().and_then(|status| status.condition(READY));
        ready.is_some_and(|ready| ready.status == "True")
    };
    wait::until(&namespace.api(), "nightly", "it to be ready", is_ready).await?;
    // The operator may still be writing what it sees; that comes to an end.
    wait::eventually("nothing to change", async || {
        let before = versions(namespace, &files).await?;
        kubectl(namespace, &apply, &files).await?;
        let after = versions(namespace, &files).await?;
        ensure!(before == after, "from\n{before}to\n{after}");
        Ok(())
    })
    .await?;
    // It fails when there is a difference.
    let difference = kubectl(namespace, &[&["diff"], mode].concat(), &files).await?;
    assert_eq!(difference, "");
    Ok(())
}

#[tokio::test]
async fn a_second_apply_by_the_client_changes_nothing() -> Outcome {
    with_namespace("apply", async |namespace| is_applied_once(namespace, &[]).await).await
}

#[tokio::test]
async fn a_second_apply_by_the_server_changes_nothing() -> Outcome {
    with_namespace("apply", async |namespace| is_applied_once(namespace, &["--server-side"]).await).await
}
