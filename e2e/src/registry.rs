//! Making Registries and reaching them.

use std::fmt::Write as _;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::DynamicObject;
use operator::api::registry::Registry;
use operator::api::status::{READY, RegistryStatus};
use operator::names;
use serde_json::{Value, json};

use crate::forward::Forward;
use crate::http::Client;
use crate::namespace::Namespace;
use crate::wait;

/// Name of the Registry in tests that need only one.
pub const NAME: &str = "registry";
/// Name of the Secret with its users.
pub const USERS: &str = "registry-users";
/// The one user of [`quick`].
pub const USER: &str = "ada";
/// The password of [`USER`].
pub const PASSWORD: &str = "lovelace";

/// A spec with a volume and users.
#[must_use]
pub fn spec() -> Value {
    json!({
        "storage": {"filesystem": {"size": "64Mi"}},
        "auth": {"htpasswdSecretRef": {"name": USERS}},
    })
}

/// Applies the Secret `name` with users and their passwords.
///
/// # Errors
/// The API server's.
pub async fn apply_users(namespace: &Namespace, name: &str, users: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut file = String::new();
    for (user, password) in users {
        // The least cost there is: the tests are not about bcrypt.
        writeln!(file, "{user}:{}", bcrypt::hash(password, 4)?)?;
    }
    apply_secret(namespace, name, &json!({"htpasswd": file})).await
}

/// Applies a Secret with texts in it.
///
/// # Errors
/// The API server's.
pub async fn apply_secret(namespace: &Namespace, name: &str, texts: &Value) -> anyhow::Result<()> {
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": texts});
    namespace.apply(secret).await?;
    Ok(())
}

/// Applies a Registry.
///
/// # Errors
/// The API server's.
pub async fn apply(namespace: &Namespace, name: &str, spec: Value) -> anyhow::Result<DynamicObject> {
    let registry = json!({
        "apiVersion": "windlass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec,
    });
    namespace.apply(registry).await
}

/// Makes the Registry [`NAME`] with the user [`USER`] and returns it when it is ready.
///
/// # Errors
/// The API server's, or when it does not become ready.
pub async fn quick(namespace: &Namespace) -> anyhow::Result<Registry> {
    apply_users(namespace, USERS, &[(USER, PASSWORD)]).await?;
    apply(namespace, NAME, spec()).await?;
    ready(namespace, NAME).await
}

/// Waits until the operator has seen the present spec of a Registry and calls it ready.
///
/// # Errors
/// When that does not happen.
pub async fn ready(namespace: &Namespace, name: &str) -> anyhow::Result<Registry> {
    observed(namespace, name, "it to be ready", |status| is(status, READY, "True")).await
}

/// Waits until Ready has the reason `reason` and is not true, and returns the message.
///
/// # Errors
/// When that does not happen.
pub async fn unready(namespace: &Namespace, name: &str, reason: &str) -> anyhow::Result<String> {
    let what = format!("it not to be ready because of {reason}");
    let is_such = |status: &RegistryStatus| {
        status.condition(READY).is_some_and(|ready| ready.status != "True" && ready.reason == reason)
    };
    let registry = observed(namespace, name, &what, is_such).await?;
    let status = registry.status.unwrap_or_default();
    Ok(status.condition(READY).map(|ready| ready.message.clone()).unwrap_or_default())
}

/// Waits until the operator has seen the present spec of a Registry and its status `holds`.
///
/// # Errors
/// When that does not happen.
pub async fn observed(
    namespace: &Namespace,
    name: &str,
    what: &str,
    holds: impl Fn(&RegistryStatus) -> bool,
) -> anyhow::Result<Registry> {
    wait::until(&namespace.api(), name, what, |registry: &Registry| {
        registry.status.as_ref().is_some_and(|status| {
            Some(status.observed_generation) == registry.metadata.generation && holds(status)
        })
    })
    .await
}

/// Whether a condition is there and has the status `expected`.
#[must_use]
pub fn is(status: &RegistryStatus, type_: &str, expected: &str) -> bool {
    status.condition(type_).is_some_and(|condition| condition.status == expected)
}

/// The certificates that clients of a Registry are to trust, as PEM.
///
/// # Errors
/// When the Secret is not there or has none.
pub async fn authorities(namespace: &Namespace, name: &str) -> anyhow::Result<String> {
    let secret: Secret = namespace.api().get(&names::tls_secret(name)).await?;
    let data = secret.data.as_ref().and_then(|data| data.get("ca.crt"));
    let bytes = data.with_context(|| format!("{} has no ca.crt", secret.name_any()))?;
    Ok(String::from_utf8(bytes.0.clone())?)
}

/// A port that leads to a Registry, and a client that trusts its certificate and has no password.
///
/// # Errors
/// When the port cannot be opened or the certificate cannot be read.
pub async fn reach(namespace: &Namespace, name: &str) -> anyhow::Result<(Forward, Client)> {
    let forward = Forward::open(namespace, name).await?;
    let client = Client::trusting(forward.port, &authorities(namespace, name).await?)?;
    Ok((forward, client))
}

/// [`reach`] for a Registry that [`quick`] has made, as its user.
///
/// # Errors
/// As there.
pub async fn reach_as_user(namespace: &Namespace) -> anyhow::Result<(Forward, Client)> {
    let (forward, client) = reach(namespace, NAME).await?;
    Ok((forward, client.with_user(USER, PASSWORD)))
}
