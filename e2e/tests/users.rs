//! Users come and go without a restart.

use anyhow::ensure;
use e2e::case::{Outcome, with_namespace};
use e2e::registry::{self, NAME, PASSWORD, USER, USERS};
use e2e::{oci, wait};
use http::StatusCode;
use k8s_openapi::api::apps::v1::Deployment;

#[tokio::test]
async fn a_changed_password_holds_without_a_restart() -> Outcome {
    with_namespace("users", async |namespace| {
        registry::quick(namespace).await?;
        let (_forward, client) = registry::reach(namespace, NAME).await?;
        let before = namespace.api::<Deployment>().get(NAME).await?.metadata.generation;
        registry::apply_users(namespace, USERS, &[(USER, "changed"), ("bob", "new")]).await?;

        for (user, password) in [(USER, "changed"), ("bob", "new")] {
            let known = client.with_user(user, password);
            wait::eventually(&format!("{user} to be let in"), async || {
                known.get("/v2/").await?.expect(StatusCode::OK)
            })
            .await?;
        }
        client.with_user(USER, PASSWORD).get("/v2/").await?.expect(StatusCode::UNAUTHORIZED)?;
        oci::push(&client.with_user("bob", "new"), "team/app", "v1", "layer").await?;
        let after = namespace.api::<Deployment>().get(NAME).await?.metadata.generation;
        ensure!(after == before, "the Deployment was changed");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_auth_everybody_may_push() -> Outcome {
    with_namespace("no-auth", async |namespace| {
        let mut spec = registry::spec();
        spec["auth"].take();
        registry::apply(namespace, NAME, spec).await?;
        registry::ready(namespace, NAME).await?;
        let (_forward, client) = registry::reach(namespace, NAME).await?;
        let digest = oci::push(&client, "team/app", "v1", "layer").await?;
        assert_eq!(oci::pull(&client, "team/app", "v1").await?, digest);
        Ok(())
    })
    .await
}
