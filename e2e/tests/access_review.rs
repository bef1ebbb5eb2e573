//! The cluster's own rules decide who may pull and push, where a Registry leaves it to them.

use anyhow::ensure;
use e2e::case::{Outcome, with_namespace};
use e2e::namespace::Namespace;
use e2e::registry::{self, NAME, USER};
use e2e::{oci, wait};
use http::StatusCode;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::DeleteParams;
use operator::api::registry::Registry;
use operator::names;
use serde_json::json;

use crate::pull::token;

/// The `ServiceAccount` that may do something, its Role and its binding.
const BUILDER: &str = "builder";
/// Where it may.
const REPOSITORY: &str = "team/app";

/// Lets [`BUILDER`] pull and push in [`REPOSITORY`], and makes another that may do nothing.
async fn accounts(namespace: &Namespace) -> anyhow::Result<()> {
    for name in [BUILDER, "stranger"] {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
        namespace.apply(account).await?;
    }
    let version = "rbac.authorization.k8s.io/v1";
    let grant = json!({
        "apiGroups": ["windlass.dev"], "resources": ["repositories"], "verbs": ["pull", "push"],
        "resourceNames": [format!("{NAME}/{REPOSITORY}")],
    });
    let role =
        json!({"apiVersion": version, "kind": "Role", "metadata": {"name": BUILDER}, "rules": [grant]});
    namespace.apply(role).await?;
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "apiVersion": version, "kind": "RoleBinding", "metadata": {"name": BUILDER},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": BUILDER},
        "subjects": [{"kind": "ServiceAccount", "name": BUILDER, "namespace": namespace.name}],
    });
    namespace.apply(binding).await?;
    Ok(())
}

#[tokio::test]
async fn a_role_of_the_cluster_gives_and_takes_rights_in_one_repository() -> Outcome {
    with_namespace("access-review", async |namespace| {
        accounts(namespace).await?;
        let mut spec = registry::spec();
        spec["auth"] = json!({"kubernetes": {"subjectAccessReview": true}});
        registry::apply(namespace, NAME, spec).await?;
        registry::ready(namespace, NAME).await?;
        let (_forward, anybody) = registry::reach(namespace, NAME).await?;
        let audience = names::service_host(NAME, &namespace.name);
        let builder = anybody.with_user(USER, &token(namespace, BUILDER, &audience).await?);
        let stranger = anybody.with_user(USER, &token(namespace, "stranger", &audience).await?);

        let digest = wait::eventually("the role to count", async || {
            oci::push(&builder, REPOSITORY, "v1", "layer").await
        })
        .await?;
        assert_eq!(oci::pull(&builder, REPOSITORY, "v1").await?, digest);
        for (client, repository) in [(&builder, "team/app2"), (&builder, "team"), (&stranger, REPOSITORY)] {
            let refused = oci::push(client, repository, "v1", "layer").await;
            ensure!(format!("{refused:?}").contains("403 Forbidden"), "{repository}: {refused:?}");
        }
        anybody.get("/v2/team/app/manifests/v1").await?.expect(StatusCode::UNAUTHORIZED)?;
        // Who may list one repository only is shown none: each would take a review of its own.
        builder.get("/v2/_catalog").await?.expect(StatusCode::FORBIDDEN)?;

        namespace.api::<RoleBinding>().delete(BUILDER, &DeleteParams::default()).await?;
        wait::eventually("the right to be gone", async || {
            builder.get("/v2/team/app/manifests/v1").await?.expect(StatusCode::FORBIDDEN)
        })
        .await?;

        let own = names::access_review_binding(NAME);
        namespace.api::<RoleBinding>().get(&own).await?;
        let rule =
            json!({"subjects": [{"kind": "ServiceAccount"}], "repositories": ["**"], "actions": ["pull"]});
        let auth = json!({"kubernetes": {"subjectAccessReview": false}, "rules": [rule]});
        namespace.merge::<Registry>(NAME, json!({"spec": {"auth": auth}})).await?;
        wait::gone(&namespace.api::<RoleBinding>(), &own).await?;
        registry::ready(namespace, NAME).await?;
        let (_forward, anybody) = registry::reach(namespace, NAME).await?;
        let stranger = anybody.with_user(USER, &token(namespace, "stranger", &audience).await?);
        assert_eq!(oci::pull(&stranger, REPOSITORY, "v1").await?, digest);
        Ok(())
    })
    .await
}
