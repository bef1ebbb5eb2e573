//! A namespace for each test, which explains the test's failure before it goes.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;

use anyhow::{Context as _, anyhow};
use futures::FutureExt;
use k8s_openapi::api::core::v1;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};

use crate::{cluster, explain, kstatus};

/// Field manager of what tests apply.
pub const FIELD_MANAGER: &str = "e2e";

/// The namespace of one test.
#[derive(Clone)]
pub struct Namespace {
    /// The way to its cluster.
    pub client: Client,
    /// Its name.
    pub name: String,
}

/// What is wrong, and the state of the namespace in which it went wrong.
pub struct Failure(String);

impl fmt::Debug for Failure {
    /// The text as it is: this is what the test runner prints.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

/// Result of a test.
pub type Outcome = Result<(), Failure>;

/// Runs `body` in a new namespace and deletes that.
///
/// Every status that a Registry or a policy has there meanwhile must follow the rules of [`kstatus`].
///
/// # Errors
/// What `body` returns or panics with, together with the state of the namespace. With `WINDLASS_KEEP` set, the namespace
/// of a failed test is kept.
pub async fn with_namespace(test: &str, body: impl AsyncFnOnce(&Namespace) -> anyhow::Result<()>) -> Outcome {
    with_labelled_namespace(test, json!({}), body).await
}

/// [`with_namespace`] with labels on the namespace.
///
/// # Errors
/// As there.
pub async fn with_labelled_namespace(
    test: &str,
    labels: Value,
    body: impl AsyncFnOnce(&Namespace) -> anyhow::Result<()>,
) -> Outcome {
    let namespace = create(cluster::connect().await?, test, labels).await?;
    let recorder = kstatus::Recorder::start(&namespace);
    let outcome = match AssertUnwindSafe(Box::pin(body(&namespace))).catch_unwind().await {
        Ok(outcome) => outcome.and_then(|()| recorder.verdict()),
        Err(panic) => Err(anyhow!("the test panicked: {}", words(panic.as_ref()))),
    };
    let outcome = match outcome {
        Ok(()) => Ok(()),
        Err(error) => Err(Failure(format!("{error:#}\n\n{}", explain::explain(&namespace).await))),
    };
    if outcome.is_ok() || std::env::var_os("WINDLASS_KEEP").is_none() {
        let namespaces = Api::<v1::Namespace>::all(namespace.client.clone());
        let deleted = namespaces.delete(&namespace.name, &DeleteParams::background()).await;
        deleted.context("delete the namespace")?;
    }
    outcome
}

async fn create(client: Client, test: &str, mut labels: Value) -> anyhow::Result<Namespace> {
    labels["windlass.dev/made-by"] = json!("e2e");
    let wanted = json!({"metadata": {"generateName": format!("e2e-{test}-"), "labels": labels}});
    let namespaces = Api::<v1::Namespace>::all(client.clone());
    let made = namespaces.create(&PostParams::default(), &serde_json::from_value(wanted)?).await;
    let name = made.context("make a namespace; is the cluster of KUBECONFIG up?")?.name_any();
    Ok(Namespace { client, name })
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(without words)")
}

impl Namespace {
    /// The objects of one kind in the namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// The objects of one kind in the cluster.
    #[must_use]
    pub fn all<K>(&self) -> Api<K>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }

    /// Applies an object of any kind, which has `apiVersion` and `kind`.
    ///
    /// # Errors
    /// The API server's.
    pub async fn apply(&self, object: Value) -> anyhow::Result<DynamicObject> {
        let resource = ApiResource::from_gvk(&type_of(&object)?);
        apply(&Api::namespaced_with(self.client.clone(), &self.name, &resource), object).await
    }

    /// Applies an object that belongs to no namespace. Let this one own it, so that it goes with the test.
    ///
    /// # Errors
    /// The API server's.
    pub async fn apply_to_cluster(&self, object: Value) -> anyhow::Result<DynamicObject> {
        let resource = ApiResource::from_gvk(&type_of(&object)?);
        apply(&Api::all_with(self.client.clone(), &resource), object).await
    }

    /// Applies all objects of a YAML text.
    ///
    /// # Errors
    /// The API server's, or the parser's.
    pub async fn apply_yaml(&self, text: &str) -> anyhow::Result<()> {
        for document in serde_yaml::Deserializer::from_str(text) {
            let object = serde::Deserialize::deserialize(document)?;
            self.apply(object).await?;
        }
        Ok(())
    }

    /// Changes fields of an object by a JSON merge patch.
    ///
    /// # Errors
    /// The API server's.
    pub async fn merge<K>(&self, name: &str, patch: Value) -> kube::Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
    }
}

async fn apply(api: &Api<DynamicObject>, object: Value) -> anyhow::Result<DynamicObject> {
    let name = object["metadata"]["name"].as_str().context("an object without a name")?.to_owned();
    let params = PatchParams::apply(FIELD_MANAGER).force();
    Ok(api.patch(&name, &params, &Patch::Apply(&object)).await?)
}

fn type_of(object: &Value) -> anyhow::Result<GroupVersionKind> {
    let text = |field: &str| object[field].as_str().with_context(|| format!("an object without {field}"));
    let (version, kind) = (text("apiVersion")?, text("kind")?);
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    Ok(GroupVersionKind::gvk(group, version, kind))
}
