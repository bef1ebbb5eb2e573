//! First step: reads everything that the other steps decide upon, and decides nothing itself.
//!
//! Everything is read from the API server when it is needed. The operator keeps no copy of other people's objects:
//! of Secrets it watches metadata only.

use futures::future::{join_all, try_join_all};
use futures::try_join;
use http::Request;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde::Deserialize;

use crate::api::registry::{Registry, RegistrySpec};
use crate::children::{Key, Kind, Live};
use crate::names;

/// What the cluster holds that matters to one Registry.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The Registry's children, and objects of others that stand under a child's name.
    pub live: Live,
    /// The htpasswd Secret that the spec names.
    pub htpasswd: Option<Secret>,
    /// The certificate Secret that the spec names.
    pub certificate: Option<Secret>,
    /// The claim that the spec's `existingClaim` names.
    pub existing_claim: Option<PersistentVolumeClaim>,
    /// Another Registry that uses the same claim and came first.
    pub claim_user: Option<String>,
    /// The cluster's storage classes; `None` where the operator may not read them.
    pub storage_classes: Option<Vec<StorageClass>>,
    /// Addresses behind the Service whose Pods are ready.
    pub ready_endpoints: usize,
    /// The server's Pods.
    pub pods: Vec<Pod>,
    /// By what tokens of the cluster are known, if the spec asks for it.
    pub token_issuer: Option<TokenIssuer>,
}

/// By what tokens of the cluster's `ServiceAccount`s are known.
#[derive(Clone, Debug, Default)]
pub struct TokenIssuer {
    /// The name that they give as their issuer.
    pub issuer: String,
    /// The public keys, as the API server serves them (RFC 7517).
    pub jwks: String,
}

/// A read that failed. It is tried again.
#[derive(Debug, thiserror::Error)]
#[error("read {what}")]
pub struct Error {
    /// What was read.
    pub what: String,
    /// Why it failed.
    pub source: kube::Error,
}

/// Reads all that `registry` depends on; `all` are the Registries that the operator knows of, `kinds` those of children that
/// it may write.
///
/// # Errors
/// [`Error`] when the API server does not answer, or refuses what the operator needs.
pub async fn dereference(
    client: &Client,
    registry: &Registry,
    all: &[&Registry],
    kinds: &[Kind],
) -> Result<Found, Error> {
    let namespace = registry.namespace().unwrap_or_default();
    let name = registry.name_any();
    let spec = &registry.spec;
    let secrets = Api::<Secret>::namespaced(client.clone(), &namespace);
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &namespace);
    let htpasswd_name = spec
        .auth
        .as_ref()
        .and_then(|auth| auth.htpasswd_secret_ref.as_ref())
        .map(|secret| secret.name.as_str());
    let certificate_name = spec.tls.secret_ref.as_ref().map(|secret| secret.name.as_str());
    let (live, htpasswd, certificate, existing_claim, storage_classes, ready_endpoints, pods, token_issuer) =
        try_join!(
            children(client, &namespace, &name, spec, kinds),
            optional(&secrets, Kind::Secret, htpasswd_name),
            optional(&secrets, Kind::Secret, certificate_name),
            optional(&claims, Kind::PersistentVolumeClaim, spec.storage.filesystem.existing_claim.as_deref()),
            storage_classes(client),
            ready_endpoints(client, &namespace, &name),
            pods(client, &namespace, &name),
            token_issuer(client, spec),
        )?;
    let claim_user = claim_user(registry, all);
    Ok(Found {
        live,
        htpasswd,
        certificate,
        existing_claim,
        claim_user,
        storage_classes,
        ready_endpoints,
        pods,
        token_issuer,
    })
}

/// The first other Registry of the namespace that uses the same claim. One that made the claim comes before one that
/// names it, then the older before the younger, so that of two exactly one gives way.
fn claim_user(registry: &Registry, all: &[&Registry]) -> Option<String> {
    let rank = |registry: &Registry| {
        let borrowed = registry.spec.storage.filesystem.existing_claim.is_some();
        let created = registry.creation_timestamp().map(|time| time.0);
        (borrowed, created, registry.name_any())
    };
    let claim = claim_name(registry);
    all.iter()
        .filter(|other| other.namespace() == registry.namespace() && other.name_any() != registry.name_any())
        .filter(|other| claim_name(other) == claim && rank(other) < rank(registry))
        .map(|other| other.name_any())
        .next()
}

/// The claim that a Registry mounts.
#[must_use]
pub fn claim_name(registry: &Registry) -> String {
    let existing = registry.spec.storage.filesystem.existing_claim.clone();
    existing.unwrap_or_else(|| names::claim(&registry.name_any()))
}

/// The keys of all children that `spec` leads to.
#[must_use]
pub fn expected(name: &str, spec: &RegistrySpec) -> Vec<Key> {
    let mut keys = vec![
        (Kind::ServiceAccount, name.to_owned()),
        (Kind::ConfigMap, names::config_map(name)),
        (Kind::Service, name.to_owned()),
        (Kind::Deployment, name.to_owned()),
    ];
    if spec.asks_for_reviews() {
        keys.push((Kind::RoleBinding, names::access_review_binding(name)));
    }
    if spec.tls.self_signed.is_some() {
        keys.push((Kind::Secret, names::authority_secret(name)));
        keys.push((Kind::Secret, names::tls_secret(name)));
    }
    if spec.storage.filesystem.existing_claim.is_none() {
        keys.push((Kind::PersistentVolumeClaim, names::claim(name)));
    }
    keys
}

/// All objects with the Registry's label, and those under a child's name that lack it.
async fn children(
    client: &Client,
    namespace: &str,
    name: &str,
    spec: &RegistrySpec,
    kinds: &[Kind],
) -> Result<Live, Error> {
    let api = |kind: Kind| kind.api(client, namespace);
    let labelled = ListParams::default().labels(&format!("{}={name}", names::REGISTRY_LABEL));
    let lists = try_join_all(kinds.iter().map(|kind| {
        let (api, labelled) = (api(*kind), &labelled);
        async move {
            let what = || format!("{}s of the Registry", kind.name());
            api.list(labelled).await.map_err(|source| Error { what: what(), source })
        }
    }))
    .await?;
    let mut live = Live::default();
    for (kind, list) in kinds.iter().zip(lists) {
        list.items.into_iter().for_each(|object| live.insert(*kind, kind.with_types(object)));
    }
    let unlabelled = expected(name, spec).into_iter();
    let unlabelled = unlabelled.filter(|key| kinds.contains(&key.0) && live.get(key).is_none());
    let reads = unlabelled.map(|(kind, child)| {
        let api = api(kind);
        async move { (kind, optional(&api, kind, Some(&child)).await) }
    });
    for (kind, object) in join_all(reads.collect::<Vec<_>>()).await {
        if let Some(object) = object? {
            live.insert(kind, object);
        }
    }
    Ok(live)
}

/// The object of this name, if there is one and a name at all.
pub(crate) async fn optional<K>(api: &Api<K>, kind: Kind, name: Option<&str>) -> Result<Option<K>, Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let Some(name) = name else { return Ok(None) };
    api.get_opt(name).await.map_err(|source| Error { what: format!("{} {name}", kind.name()), source })
}

/// An operator that was given rights in some namespaces only may not read storage classes. It then leaves what is wrong
/// with them to the API server.
async fn storage_classes(client: &Client) -> Result<Option<Vec<StorageClass>>, Error> {
    match Api::<StorageClass>::all(client.clone()).list(&ListParams::default()).await {
        Ok(list) => Ok(Some(list.items)),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
        Err(source) => Err(Error { what: "StorageClasses".to_owned(), source }),
    }
}

async fn ready_endpoints(client: &Client, namespace: &str, name: &str) -> Result<usize, Error> {
    let of_service = ListParams::default().labels(&format!("{}={name}", names::SERVICE_NAME_LABEL));
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace)
        .list(&of_service)
        .await
        .map_err(|source| Error { what: format!("EndpointSlices of Service {name}"), source })?;
    let endpoints = slices.items.iter().flat_map(|slice| &slice.endpoints);
    Ok(endpoints
        .filter(|endpoint| endpoint.conditions.as_ref().is_some_and(|c| c.ready == Some(true)))
        .count())
}

/// Asks the API server as any client of `OpenID` Connect would, if the spec asks for tokens.
async fn token_issuer(client: &Client, spec: &RegistrySpec) -> Result<Option<TokenIssuer>, Error> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
    }
    if spec.auth.as_ref().is_none_or(|auth| auth.kubernetes.is_none()) {
        return Ok(None);
    }
    let failed = |source| Error { what: "the cluster's issuer of tokens and its keys".to_owned(), source };
    let get = |path| Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError).map_err(failed);
    let discovery = client.request::<Discovery>(get("/.well-known/openid-configuration")?);
    let jwks = client.request_text(get("/openid/v1/jwks")?);
    let (Discovery { issuer }, jwks) = try_join!(discovery, jwks).map_err(failed)?;
    Ok(Some(TokenIssuer { issuer, jwks }))
}

async fn pods(client: &Client, namespace: &str, name: &str) -> Result<Vec<Pod>, Error> {
    let selected = ListParams::default().labels(&names::selector_text(name));
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&selected).await;
    Ok(pods.map_err(|source| Error { what: "Pods of the Registry".to_owned(), source })?.items)
}

#[cfg(test)]
mod tests {
    use super::{claim_user, expected};
    use crate::api::registry::Registry;
    use crate::children::Kind;
    use serde_json::{Value, json};

    fn registry(name: &str, created: &str, filesystem: &Value) -> Registry {
        let metadata = json!({"name": name, "namespace": "n", "creationTimestamp": created});
        serde_json::from_value(json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry",
            "metadata": metadata, "spec": {"storage": {"filesystem": filesystem}}}))
        .unwrap()
    }

    #[test]
    fn of_two_registries_with_one_claim_exactly_one_gives_way() {
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let own = json!({"size": "1Gi"});
        let mine = json!({"existingClaim": "mine"});
        let of_a = json!({"existingClaim": "a-data"});
        for (first, second, gives_way) in [
            (registry("a", early, &mine), registry("b", late, &mine), Some("b")),
            (registry("a", late, &mine), registry("b", early, &mine), Some("a")),
            (registry("a", early, &mine), registry("b", early, &mine), Some("b")),
            // The Registry that made the claim keeps it, even if it is the younger.
            (registry("a", late, &own), registry("b", early, &of_a), Some("b")),
            (registry("a", early, &own), registry("b", late, &own), None),
        ] {
            let all = [&first, &second];
            let losers = all.into_iter().filter(|one| claim_user(one, &all).is_some());
            let losers: Vec<&str> = losers.filter_map(|one| one.metadata.name.as_deref()).collect();
            assert_eq!(losers, gives_way.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_registry_of_another_namespace_has_another_claim() {
        let mine = json!({"existingClaim": "mine"});
        let first = registry("a", "2026-01-01T00:00:00Z", &mine);
        let mut second = registry("b", "2026-01-02T00:00:00Z", &mine);
        second.metadata.namespace = Some("m".to_owned());
        assert_eq!(claim_user(&second, &[&first, &second]), None);
    }

    #[test]
    fn only_the_children_that_the_spec_leads_to_are_expected() {
        let kinds = |filesystem: &Value, tls: Value| {
            let mut registry = registry("a", "2026-01-01T00:00:00Z", filesystem);
            registry.spec.tls = serde_json::from_value(tls).unwrap();
            let kinds: Vec<Kind> = expected("a", &registry.spec).into_iter().map(|(kind, _)| kind).collect();
            let count = |kind| kinds.iter().filter(|present| **present == kind).count();
            (count(Kind::Secret), count(Kind::PersistentVolumeClaim), kinds.len())
        };
        assert_eq!(kinds(&json!({"size": "1Gi"}), json!({"selfSigned": {}})), (2, 1, 7));
        assert_eq!(kinds(&json!({"existingClaim": "c"}), json!({"disabled": {}})), (0, 0, 4));
    }
}
