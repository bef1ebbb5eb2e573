//! First step: reads everything that the other steps decide upon, and decides nothing itself.

use futures::{StreamExt, stream, try_join};
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use kube::api::{Api, DynamicObject};
use kube::{Client, ResourceExt};

use super::{Known, asks};
use crate::api::registry::Registry;
use crate::children::{Kind, Live};
use crate::context::Context;
use crate::names;
use crate::registries::CONCURRENCY;
use crate::registry::dereference::{Error, optional};

/// What the cluster holds that matters to the nodes.
#[derive(Debug, Default)]
pub struct Found<'a> {
    /// Unique id of the agents' `ServiceAccount`, which the chart makes and to which all else belongs.
    pub account: Option<String>,
    /// The plan and the agents as they are.
    pub live: Live,
    /// The Registries that ask for access.
    pub asking: Vec<Asking<'a>>,
}

/// A Registry that asks for access.
#[derive(Debug)]
pub struct Asking<'a> {
    /// The Registry.
    pub registry: &'a Registry,
    /// Where it is and whom to trust. While that cannot be read, the nodes go on as they were told before.
    pub parts: Result<Parts, Error>,
}

/// What of a Registry the nodes are told.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Its Service, if it is there.
    pub service: Option<Service>,
    /// The Secret with its certificate, if it has one and that is there.
    pub certificate: Option<Secret>,
}

/// Reads all that the nodes depend on.
///
/// # Errors
/// [`Error`] when the API server does not answer, or refuses what the operator needs. What fails for a single Registry
/// is told with that.
pub async fn dereference<'a>(known: &Known<'a>, context: &Context) -> Result<Found<'a>, Error> {
    let client = &context.client;
    let namespace = &context.node_access.namespace;
    let mut found = Found::default();
    if context.node_access.image.is_some() {
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
        let (account, config_map, daemon_set) = try_join!(
            optional(&accounts, Kind::ServiceAccount, Some(names::NODE_AGENT)),
            child(client, namespace, Kind::ConfigMap, names::NODE_ACCESS_PLAN),
            child(client, namespace, Kind::DaemonSet, names::NODE_AGENT),
        )?;
        found.account = account.and_then(|account| account.uid());
        for (kind, object) in [(Kind::ConfigMap, config_map), (Kind::DaemonSet, daemon_set)] {
            if let Some(object) = object {
                found.live.insert(kind, object);
            }
        }
    }
    let registries: Vec<&Registry> =
        known.registries.readable.iter().copied().filter(|registry| asks(registry)).collect();
    found.asking = stream::iter(registries)
        .map(|registry| asking(client, registry))
        .buffered(CONCURRENCY)
        .collect()
        .await;
    Ok(found)
}

async fn asking<'a>(client: &Client, registry: &'a Registry) -> Asking<'a> {
    let namespace = registry.namespace().unwrap_or_default();
    let name = registry.name_any();
    let services = Api::<Service>::namespaced(client.clone(), &namespace);
    let secrets = Api::<Secret>::namespaced(client.clone(), &namespace);
    let secret = certificate_secret(registry);
    let read = async {
        try_join!(
            optional(&services, Kind::Service, Some(&name)),
            optional(&secrets, Kind::Secret, secret.as_deref()),
        )
    };
    let parts = read.await.map(|(service, certificate)| Parts { service, certificate });
    Asking { registry, parts }
}

/// The Secret whose `ca.crt` clients of `registry` are to trust.
fn certificate_secret(registry: &Registry) -> Option<String> {
    let tls = &registry.spec.tls;
    match &tls.secret_ref {
        _ if tls.disabled.is_some() => None,
        Some(reference) => Some(reference.name.clone()),
        None => Some(names::tls_secret(&registry.name_any())),
    }
}

async fn child(
    client: &Client,
    namespace: &str,
    kind: Kind,
    name: &str,
) -> Result<Option<DynamicObject>, Error> {
    optional(&kind.api(client, namespace), kind, Some(name)).await
}
