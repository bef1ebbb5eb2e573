//! First step: reads the namespaces, and what of ours lies in them.

use futures::future::try_join_all;
use futures::try_join;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, ServiceAccount};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, ObjectList};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use crate::children::Kind;
use crate::names;
use crate::registries::Registries;
use crate::registry::dereference::Error;

/// What the cluster holds that matters to pull access.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The namespaces, as metadata; `None` if the operator may not list them, or need not know.
    pub namespaces: Option<Vec<PartialObjectMeta<Namespace>>>,
    /// All Secrets with our label.
    pub secrets: Vec<DynamicObject>,
    /// The `ServiceAccount`s.
    pub accounts: Vec<ServiceAccount>,
    /// The Pods of the servers, as metadata.
    pub servers: Vec<PartialObjectMeta<Pod>>,
    /// Policies for Pods with our label, and what binds them; `None` where the API server has no such thing, or the
    /// operator may not use it.
    pub policies: Option<Vec<(Kind, DynamicObject)>>,
}

impl Found {
    /// The Secret of this name with our label.
    #[must_use]
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&DynamicObject> {
        let is_it = |secret: &&DynamicObject| {
            secret.metadata.namespace.as_deref() == Some(namespace)
                && secret.metadata.name.as_deref() == Some(name)
        };
        self.secrets.iter().find(is_it)
    }
}

/// Reads all that matters to the `registries` in the `watched` namespaces, or in all if there are none.
///
/// # Errors
/// [`Error`] when the API server does not answer, or refuses what the operator needs.
pub async fn dereference(
    client: &Client,
    registries: &Registries<'_>,
    watched: &[String],
) -> Result<Found, Error> {
    let ours = ListParams::default().labels(names::PULL_REGISTRY_LABEL);
    let every = ListParams::default();
    let (secrets, policies) = try_join!(list::<Secret>(client, watched, &ours), policies(client, &ours))?;
    let secrets = secrets.into_iter().filter_map(dynamic).collect();
    let mut found = Found { secrets, policies, ..Found::default() };
    let is_asked = registries.readable.iter().any(|registry| registry.spec.pull_access.is_some());
    // In most clusters nobody has ever asked.
    if !is_asked && found.secrets.is_empty() {
        return Ok(found);
    }
    let servers = ListParams::default().labels(&format!("{}={}", names::NAME_LABEL, names::NAME));
    (found.namespaces, found.accounts, found.servers) = try_join!(
        namespaces(client),
        list(client, watched, &every),
        list_metadata(client, watched, &servers),
    )?;
    Ok(found)
}

/// Kubernetes' own types always have a JSON form that is an object.
fn dynamic(secret: Secret) -> Option<DynamicObject> {
    serde_json::to_value(secret).and_then(serde_json::from_value).ok()
}

async fn list<K>(client: &Client, watched: &[String], params: &ListParams) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let lists = apis::<K>(client, watched).into_iter().map(|api| async move { api.list(params).await });
    gather(lists, K::kind(&()).as_ref()).await
}

async fn list_metadata<K>(
    client: &Client,
    watched: &[String],
    params: &ListParams,
) -> Result<Vec<PartialObjectMeta<K>>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let lists =
        apis::<K>(client, watched).into_iter().map(|api| async move { api.list_metadata(params).await });
    gather(lists, K::kind(&()).as_ref()).await
}

fn apis<K>(client: &Client, watched: &[String]) -> Vec<Api<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    if watched.is_empty() {
        return vec![Api::all(client.clone())];
    }
    watched.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect()
}

async fn gather<T: Clone>(
    lists: impl Iterator<Item = impl Future<Output = kube::Result<ObjectList<T>>>>,
    kind: &str,
) -> Result<Vec<T>, Error> {
    let lists = try_join_all(lists).await.map_err(|source| Error { what: format!("{kind}s"), source })?;
    Ok(lists.into_iter().flat_map(|list| list.items).collect())
}

/// Nothing where the operator may not list them: that concerns only those who ask for pull access.
async fn namespaces(client: &Client) -> Result<Option<Vec<PartialObjectMeta<Namespace>>>, Error> {
    match Api::<Namespace>::all(client.clone()).list_metadata(&ListParams::default()).await {
        Ok(list) => Ok(Some(list.items)),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
        Err(source) => Err(Error { what: "Namespaces".to_owned(), source }),
    }
}

/// An API server that does not know the kind answers 404.
async fn policies(client: &Client, ours: &ListParams) -> Result<Option<Vec<(Kind, DynamicObject)>>, Error> {
    let mut found = Vec::new();
    for kind in Kind::OF_POLICY {
        let resource: ApiResource = kind.resource();
        match Api::<DynamicObject>::all_with(client.clone(), &resource).list(ours).await {
            Ok(list) => found.extend(list.items.into_iter().map(|object| (kind, kind.with_types(object)))),
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => return Ok(None),
            Err(source) => return Err(Error { what: format!("{}s", kind.name()), source }),
        }
    }
    Ok(Some(found))
}
