//! The namespace of a test, and what tests do in it.

use anyhow::Context as _;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Client, Resource};
use serde_json::Value;

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
