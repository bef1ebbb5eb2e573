//! Namespaces that a selector chooses pull without anybody handing out secrets, and those that it does not choose do not.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use e2e::case::{Outcome, with_namespace};
use e2e::http::Client;
use e2e::namespace::Namespace;
use e2e::registry::{self, NAME, PASSWORD, USER, USERS};
use e2e::{node_access, oci, wait};
use http::StatusCode;
use k8s_openapi::api::core::v1::{self, Event, Pod, Secret, ServiceAccount};
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use operator::api::pull_access::PULL_ACCESS_READY;
use operator::api::registry::Registry;
use operator::children::Kind;
use operator::names;
use serde_json::{Value, json};

use crate::pull::{Refusal, ends_well, is_refused, push_hello};

/// Label of the namespaces that are selected, with the namespace of the Registry.
const LABEL: &str = "e2e.windlass.dev/images-of";
/// What a user has put into a list before us.
const MINE: &str = "mine";

/// Makes a Registry whose rules give each namespace a place of its own, and selects those with [`LABEL`].
pub(crate) async fn hub(namespace: &Namespace, pull_access: &Value) -> anyhow::Result<()> {
    let mut spec = registry::spec();
    spec["auth"]["rules"] = json!([
        {"subjects": [{"kind": "User", "name": USER}], "repositories": ["**"], "actions": ["pull", "push"]},
        {"subjects": [{"kind": "ServiceAccount"}], "repositories": ["{namespace}/**"], "actions": ["pull", "push"]},
    ]);
    spec["pullAccess"] = json!({"namespaceSelector": {"matchLabels": {LABEL: namespace.name}}});
    spec["pullAccess"]
        .as_object_mut()
        .context("no object")?
        .extend(pull_access.as_object().cloned().unwrap_or_default());
    registry::apply_users(namespace, USERS, &[(USER, PASSWORD)]).await?;
    registry::apply(namespace, NAME, spec).await?;
    registry::ready(namespace, NAME).await?;
    Ok(())
}

/// Makes another namespace that goes with that of the test.
async fn neighbour(hub: &Namespace, name: &str, is_selected: bool) -> anyhow::Result<Namespace> {
    let owner: v1::Namespace = hub.all().get(&hub.name).await?;
    let owner = json!({"apiVersion": "v1", "kind": "Namespace", "name": hub.name, "uid": owner.uid()});
    let name = format!("{}-{name}", hub.name);
    let labels = if is_selected { json!({LABEL: hub.name}) } else { json!({}) };
    let metadata = json!({"name": name, "labels": labels, "ownerReferences": [owner]});
    hub.apply_to_cluster(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await?;
    Ok(Namespace { client: hub.client.clone(), name })
}

pub(crate) fn secret_name(hub: &Namespace) -> String {
    names::pull_secret(NAME, &hub.name)
}

fn image(hub: &Namespace, repository: &str) -> String {
    format!("{NAME}.{}.svc:5000/{repository}:v1", hub.name)
}

fn listed(account: &ServiceAccount) -> Vec<String> {
    account.image_pull_secrets.iter().flatten().map(|entry| entry.name.clone()).collect()
}

/// Starts a Pod that names these pull secrets by itself.
async fn start(namespace: &Namespace, pod: &str, image: &str, pull_secrets: &[&str]) -> anyhow::Result<Pod> {
    let secrets: Vec<_> = pull_secrets.iter().map(|name| json!({"name": name})).collect();
    // What a node may have kept is not what is tested.
    let container = json!({"name": "hello", "image": image, "imagePullPolicy": "Always"});
    let spec = json!({"restartPolicy": "Never", "imagePullSecrets": secrets, "containers": [container]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "spec": spec});
    Ok(namespace.apply(pod).await?.try_parse()?)
}

/// Waits until the list of a `ServiceAccount` is this.
pub(crate) async fn lists(namespace: &Namespace, account: &str, expected: &[&str]) -> anyhow::Result<()> {
    let what = format!("it to list {expected:?}");
    wait::until(&namespace.api::<ServiceAccount>(), account, &what, |account| listed(account) == expected)
        .await?;
    Ok(())
}

/// Makes the `ServiceAccount` `default` list a secret of its user's.
async fn with_own_secret(namespace: &Namespace) -> anyhow::Result<()> {
    wait::until(&namespace.api::<ServiceAccount>(), "default", "it to be there", |_| true).await?;
    let list = json!({"imagePullSecrets": [{"name": MINE}]});
    namespace.merge::<ServiceAccount>("default", list).await?;
    Ok(())
}

pub(crate) async fn select(hub: &Namespace, namespace: &Namespace, is_selected: bool) -> anyhow::Result<()> {
    let label = if is_selected { json!(hub.name) } else { Value::Null };
    let patch = Patch::Merge(json!({"metadata": {"labels": {LABEL: label}}}));
    hub.all::<v1::Namespace>().patch(&namespace.name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// The password in the pull secret of a namespace, for the host that Pods use.
pub(crate) async fn password(hub: &Namespace, namespace: &Namespace) -> anyhow::Result<String> {
    let name = secret_name(hub);
    let secret = wait::until(&namespace.api::<Secret>(), &name, "it to be there", |_| true).await?;
    let data = secret.data.unwrap_or_default();
    let config: Value = serde_json::from_slice(&data.get(".dockerconfigjson").context("it has no key")?.0)?;
    let entry = &config["auths"][format!("{NAME}.{}.svc:5000", hub.name)];
    Ok(entry["password"].as_str().context("no password")?.to_owned())
}

async fn answers(client: &Client, password: &str, status: StatusCode) -> anyhow::Result<()> {
    let client = client.clone().with_user("any", password);
    wait::eventually("the password to count, or not", async || {
        client.get("/v2/").await?.expect(status)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_selected_namespace_pulls_with_nothing_in_its_pods_and_gives_everything_back() -> Outcome {
    with_namespace("pull-access", async |hub_namespace| {
        hub(hub_namespace, &json!({})).await?;
        node_access::grant(hub_namespace, NAME).await?;
        let bank = neighbour(hub_namespace, "bank", false).await?;
        let shop = neighbour(hub_namespace, "shop", true).await?;
        let ours = secret_name(hub_namespace);
        lists(&shop, "default", &[&ours]).await?;
        let own = image(hub_namespace, &format!("{}/hello", shop.name));
        for repository in [format!("{}/hello", shop.name), format!("{}/hello", bank.name)] {
            push_hello(hub_namespace, &repository, PASSWORD).await?;
        }

        // By rules, its own; not another's, and outside the selection nothing.
        start(&shop, "friend", &own, &[]).await?;
        ends_well(&shop, "friend").await?;
        let another = image(hub_namespace, &format!("{}/hello", bank.name));
        start(&shop, "intruder", &another, &[]).await?;
        is_refused(&shop, "intruder", Refusal::Forbidden).await?;
        start(&bank, "stranger", &own, &[]).await?;
        is_refused(&bank, "stranger", Refusal::Unknown).await?;
        let events = bank.api::<Event>().list(&ListParams::default()).await?;
        let says_why = |event: &Event| {
            let words = event.message.as_deref().unwrap_or_default();
            let is_why = words.contains("401") || words.contains("authorization failed");
            event.reason.as_deref() == Some("Failed") && words.contains(&own) && is_why
        };
        ensure!(events.iter().any(says_why), "no Event says why the Pod does not start");

        // A ServiceAccount that comes later, and one with a list of its own.
        let late = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "late"},
            "imagePullSecrets": [{"name": MINE}]});
        shop.apply(late).await?;
        lists(&shop, "late", &[MINE, &ours]).await?;
        let status = registry::observed(hub_namespace, NAME, "it to count namespaces", |status| {
            status.pull_access.as_ref().is_some_and(|pull| pull.namespaces == 1)
                && registry::is(status, PULL_ACCESS_READY, "True")
        });
        status.await?;

        // Out of the selection: all goes back, and the password is worth nothing.
        let (_forward, client) = registry::reach(hub_namespace, NAME).await?;
        let former = password(hub_namespace, &shop).await?;
        answers(&client, &former, StatusCode::OK).await?;
        select(hub_namespace, &shop, false).await?;
        lists(&shop, "late", &[MINE]).await?;
        lists(&shop, "default", &[]).await?;
        wait::gone(&shop.api::<Secret>(), &ours).await?;
        answers(&client, &former, StatusCode::UNAUTHORIZED).await
    })
    .await
}

#[tokio::test]
async fn a_registry_that_goes_leaves_nothing_in_other_namespaces() -> Outcome {
    with_namespace("pull-gone", async |hub_namespace| {
        let shop = neighbour(hub_namespace, "shop", true).await?;
        with_own_secret(&shop).await?;
        hub(hub_namespace, &json!({})).await?;
        let ours = secret_name(hub_namespace);
        lists(&shop, "default", &[MINE, &ours]).await?;

        // What somebody deletes or changes is back.
        shop.api::<Secret>().delete(&ours, &DeleteParams::default()).await?;
        let before = password(hub_namespace, &shop).await?;
        shop.merge::<Secret>(&ours, json!({"stringData": {".dockerconfigjson": "{}"}})).await?;
        wait::eventually("the password to be back", async || {
            ensure!(password(hub_namespace, &shop).await? == before);
            Ok(())
        })
        .await?;
        shop.merge::<ServiceAccount>("default", json!({"imagePullSecrets": [{"name": MINE}]})).await?;
        lists(&shop, "default", &[MINE, &ours]).await?;

        // Another way to attach takes this one back.
        let patch = |attach: &str| json!({"spec": {"pullAccess": {"attach": attach}}});
        hub_namespace.merge::<Registry>(NAME, patch("None")).await?;
        lists(&shop, "default", &[MINE]).await?;
        ensure!(password(hub_namespace, &shop).await? == before, "the Secret stays");
        hub_namespace.merge::<Registry>(NAME, patch("ServiceAccounts")).await?;
        lists(&shop, "default", &[MINE, &ours]).await?;

        hub_namespace.api::<Registry>().delete(NAME, &DeleteParams::default()).await?;
        lists(&shop, "default", &[MINE]).await?;
        let selector = format!("{}={}", names::PULL_NAMESPACE_LABEL, hub_namespace.name);
        wait::eventually("nothing to be left", async || {
            let left = Api::<Secret>::all(shop.client.clone())
                .list(&ListParams::default().labels(&selector))
                .await?;
            let left: Vec<String> = left.iter().map(ResourceExt::name_any).collect();
            ensure!(left.is_empty(), "{left:?} is left");
            Ok(())
        })
        .await?;
        let account: ServiceAccount = shop.api().get("default").await?;
        ensure!(!account.annotations().contains_key(names::ATTACHED_ANNOTATION), "a mark is left");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone_and_told_of() -> Outcome {
    with_namespace("pull-taken", async |hub_namespace| {
        let shop = neighbour(hub_namespace, "shop", true).await?;
        let ours = secret_name(hub_namespace);
        registry::apply_secret(&shop, &ours, &json!({"theirs": "1"})).await?;
        hub(hub_namespace, &json!({})).await?;
        let registry = registry::observed(hub_namespace, NAME, "it to tell of the namespace", |status| {
            registry::is(status, PULL_ACCESS_READY, "False") && registry::is(status, "Ready", "True")
        })
        .await?;
        let failing = registry.status.and_then(|status| status.pull_access).unwrap_or_default().failing;
        ensure!(failing.len() == 1 && failing[0].namespace == shop.name, "{failing:?}");
        ensure!(failing[0].reason == "NameTaken" && failing[0].message.contains(&ours), "{failing:?}");
        let secret: Secret = shop.api().get(&ours).await?;
        ensure!(secret.data.is_some_and(|data| data.contains_key("theirs")), "it was changed");
        // When it is out of the way, all is well.
        shop.api::<Secret>().delete(&ours, &DeleteParams::default()).await?;
        hub_namespace.merge::<Registry>(NAME, json!({"spec": {"pullAccess": {"attach": "None"}}})).await?;
        password(hub_namespace, &shop).await?;
        registry::observed(hub_namespace, NAME, "it to be in order", |status| {
            registry::is(status, PULL_ACCESS_READY, "True")
        })
        .await?;
        Ok(())
    })
    .await
}

async fn policies(namespace: &Namespace) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for kind in Kind::OF_POLICY {
        let resource: ApiResource = kind.resource();
        let ours =
            ListParams::default().labels(&format!("{}={}", names::PULL_NAMESPACE_LABEL, namespace.name));
        let list = Api::<DynamicObject>::all_with(namespace.client.clone(), &resource).list(&ours).await?;
        found.extend(list.iter().map(ResourceExt::name_any));
    }
    Ok(found)
}

/// Changes both halves of the policy and waits until they are as they were.
async fn policy_is_put_right(hub: &Namespace, namespace: &Namespace) -> anyhow::Result<()> {
    let name = names::pull_policy(NAME, &hub.name);
    let label = json!({"metadata": {"labels": {names::MANAGED_BY_LABEL: "somebody"}}});
    for kind in [Kind::MutatingAdmissionPolicy, Kind::MutatingAdmissionPolicyBinding] {
        let api = Api::<DynamicObject>::all_with(hub.client.clone(), &kind.resource());
        let before = api.get(&name).await?.metadata.labels;
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&label)).await?;
        // Policies are not watched: news of any namespace make the operator look at all again.
        let news = json!({"metadata": {"labels": {"e2e.windlass.dev/news": kind.name()}}});
        let namespaces = hub.all::<v1::Namespace>();
        namespaces.patch(&namespace.name, &PatchParams::default(), &Patch::Merge(news)).await?;
        wait::until(&api, &name, "it to be put right", |object| object.metadata.labels == before).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_policy_gives_the_secret_to_the_pods_that_use_the_registry() -> Outcome {
    with_namespace("pull-policy", async |hub_namespace| {
        hub(hub_namespace, &json!({"attach": "Pods"})).await?;
        node_access::grant(hub_namespace, NAME).await?;
        let shop = neighbour(hub_namespace, "shop", true).await?;
        let (ours, repository) = (secret_name(hub_namespace), format!("{}/hello", shop.name));
        push_hello(hub_namespace, &repository, PASSWORD).await?;
        password(hub_namespace, &shop).await?;
        let own = image(hub_namespace, &repository);
        let pods = shop.api::<Pod>();
        let secrets = async |name: &str, image: &str, named: &[&str]| -> anyhow::Result<Vec<String>> {
            let spec = start(&shop, name, image, named).await?.spec.unwrap_or_default();
            Ok(spec.image_pull_secrets.unwrap_or_default().into_iter().map(|entry| entry.name).collect())
        };
        // The API server takes a moment to learn of a policy.
        wait::eventually("a Pod to be given the Secret", async || {
            pods.delete("probe", &DeleteParams::default().grace_period(0)).await.ok();
            wait::gone(&pods, "probe").await?;
            ensure!(secrets("probe", &own, &[]).await? == [ours.as_str()]);
            Ok(())
        })
        .await?;
        ensure!(secrets("friend", &own, &[]).await? == [ours.as_str()]);
        ends_well(&shop, "friend").await?;
        ensure!(secrets("with-own", &own, &[MINE]).await? == [MINE, ours.as_str()]);
        ensure!(secrets("with-ours", &own, &[&ours]).await? == [ours.as_str()]);
        ensure!(secrets("foreign", "registry.example/hello:v1", &[]).await?.is_empty());
        let account: ServiceAccount = shop.api().get("default").await?;
        ensure!(listed(&account).is_empty(), "{:?}", listed(&account));

        policy_is_put_right(hub_namespace, &shop).await?;

        hub_namespace.api::<Registry>().delete(NAME, &DeleteParams::default()).await?;
        wait::eventually("the policy to be gone", async || {
            let left = policies(hub_namespace).await?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn no_pull_fails_while_passwords_are_exchanged() -> Outcome {
    with_namespace("pull-rotation", async |hub_namespace| {
        hub(hub_namespace, &json!({"rotateEvery": "1m"})).await?;
        let shop = neighbour(hub_namespace, "shop", true).await?;
        let repository = format!("{}/app", shop.name);
        let (_forward, client) = registry::reach_as_user(hub_namespace).await?;
        oci::push(&client, &repository, "v1", "layer").await?;
        let first = password(hub_namespace, &shop).await?;
        let (_forward, anybody) = registry::reach(hub_namespace, NAME).await?;
        answers(&anybody, &first, StatusCode::OK).await?;

        // As a kubelet does: the Secret is read, then used. The exchange is over when the first is worth nothing.
        let (mut used, mut pulls) = (BTreeSet::new(), 0);
        let former = anybody.clone().with_user("any", &first);
        while former.get("/v2/").await?.expect(StatusCode::OK).is_ok() {
            let password = password(hub_namespace, &shop).await?;
            let client = anybody.clone().with_user("any", &password);
            oci::pull(&client, &repository, "v1").await.with_context(|| format!("after {pulls} pulls"))?;
            used.insert(password);
            pulls += 1;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        println!("{pulls} pulls went well meanwhile");
        ensure!(used.len() == 2 && used.contains(&first), "{} passwords were used", used.len());
        Ok(())
    })
    .await
}
