//! Where the server's certificate may come from, besides the Registry's own authority.

use anyhow::ensure;
use e2e::case::{Outcome, with_namespace};
use e2e::forward::Forward;
use e2e::http::Client;
use e2e::namespace::Namespace;
use e2e::registry::{self, NAME, PASSWORD, USER, USERS};
use e2e::wait;
use http::StatusCode;
use serde_json::{Value, json};

async fn ready_with(namespace: &Namespace, tls: Value) -> anyhow::Result<operator::api::registry::Registry> {
    let mut spec = registry::spec();
    spec["tls"] = tls;
    registry::apply_users(namespace, USERS, &[(USER, PASSWORD)]).await?;
    registry::apply(namespace, NAME, spec).await?;
    registry::ready(namespace, NAME).await
}

/// Puts a new certificate into the Secret `mine` and returns it.
async fn provide(namespace: &Namespace) -> anyhow::Result<String> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let texts = json!({"tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem()});
    registry::apply_secret(namespace, "mine", &texts).await?;
    Ok(made.cert.pem())
}

#[tokio::test]
async fn a_certificate_of_the_users_is_presented_and_followed() -> Outcome {
    with_namespace("tls-secret", async |namespace| {
        let first = provide(namespace).await?;
        ready_with(namespace, json!({"secretRef": {"name": "mine"}})).await?;
        let forward = Forward::open(namespace, NAME).await?;
        for certificate in [first, provide(namespace).await?] {
            let client = Client::trusting(forward.port, &certificate)?.with_user(USER, PASSWORD);
            wait::eventually("the certificate", async || client.get("/v2/").await?.expect(StatusCode::OK))
                .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_tls_the_registry_speaks_plain_http() -> Outcome {
    with_namespace("tls-off", async |namespace| {
        let ready = ready_with(namespace, json!({"disabled": {}})).await?;
        let status = ready.status.unwrap_or_default();
        assert_eq!(status.url, Some(format!("http://registry.{}.svc:5000", namespace.name)));
        assert_eq!(status.certificate, None);
        let forward = Forward::open(namespace, NAME).await?;
        let client = Client::plain(forward.port).with_user(USER, PASSWORD);
        client.get("/v2/").await?.expect(StatusCode::OK)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_hostname_joins_the_certificate_and_tls_switched_off_leaves_no_secrets_behind() -> Outcome {
    with_namespace("tls-switch", async |namespace| {
        registry::quick(namespace).await?;
        let (_forward, client) = registry::reach_as_user(namespace).await?;
        let client = client.knowing_it_as("images.example");
        ensure!(client.get("/v2/").await.is_err(), "the certificate names a host that nobody has asked for");
        let patch = json!({"spec": {"hostnames": ["images.example"]}});
        namespace.merge::<operator::api::registry::Registry>(NAME, patch).await?;
        // The server that is running follows the Secret, as soon as the kubelet has brought it there.
        wait::eventually("the name", async || client.get("/v2/").await?.expect(StatusCode::OK)).await?;

        let mut spec = registry::spec();
        // Applying the field alone would leave the default beside it.
        spec["tls"] = json!({"disabled": {}, "selfSigned": null});
        let patch = json!({"spec": {"tls": spec["tls"]}});
        namespace.merge::<operator::api::registry::Registry>(NAME, patch).await?;
        registry::ready(namespace, NAME).await?;
        let secrets = namespace.api::<k8s_openapi::api::core::v1::Secret>();
        for secret in [operator::names::tls_secret(NAME), operator::names::authority_secret(NAME)] {
            wait::gone(&secrets, &secret).await?;
        }
        Ok(())
    })
    .await
}
