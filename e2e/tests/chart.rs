//! The operator as the chart installs it: with few rights, in restricted Pods, led by one of two.

use anyhow::{Context as _, ensure};
use e2e::case::{Outcome, with_labelled_namespace, with_namespace};
use e2e::cluster::SYSTEM_NAMESPACE;
use e2e::namespace::Namespace;
use e2e::registry::{self, NAME};
use e2e::{oci, system};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use serde_json::json;

const RESTRICTED: &str = "pod-security.kubernetes.io/enforce";

#[tokio::test]
async fn a_registry_runs_where_only_restricted_pods_may() -> Outcome {
    with_labelled_namespace("restricted", json!({RESTRICTED: "restricted"}), async |namespace| {
        registry::quick(namespace).await?;
        let (_forward, client) = registry::reach_as_user(namespace).await?;
        oci::push(&client, "team/app", "v1", "layer").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_operators_own_pods_are_restricted() -> Outcome {
    with_labelled_namespace("operator", json!({RESTRICTED: "restricted"}), async |namespace| {
        let deployments = system::api::<Deployment>(&namespace.client);
        let mut spec = deployments
            .get(system::RELEASE)
            .await?
            .spec
            .context("no spec")?
            .template
            .spec
            .context("no Pod")?;
        assert_eq!(spec.service_account_name.as_deref(), Some(system::RELEASE));
        // The namespace of the test has no such ServiceAccount, and admission asks for one.
        (spec.service_account_name, spec.service_account) = (None, None);
        let pod =
            Pod { spec: Some(spec), ..serde_json::from_value(json!({"metadata": {"name": "operator"}}))? };
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        namespace.api::<Pod>().create(&dry_run, &pod).await?;
        Ok(())
    })
    .await
}

async fn may(namespace: &Namespace, verb: &str, resource: &str) -> anyhow::Result<bool> {
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({"metadata": {}, "spec": {
        "user": format!("system:serviceaccount:{SYSTEM_NAMESPACE}:{}", system::RELEASE),
        "groups": ["system:serviceaccounts", "system:authenticated"],
        "resourceAttributes": {"namespace": namespace.name, "verb": verb, "group": group, "resource": resource,
                               "subresource": subresource},
    }});
    let reviews: Api<SubjectAccessReview> = namespace.all();
    let answer = reviews.create(&PostParams::default(), &serde_json::from_value(review)?).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[tokio::test]
async fn the_operator_may_do_what_it_does_and_no_more() -> Outcome {
    with_namespace("rights", async |namespace| {
        for (verb, resource, expected) in [
            ("patch", "registries/status.windlass.dev", true),
            ("patch", "deployments.apps", true),
            ("create", "persistentvolumeclaims", true),
            // The spec is the user's.
            ("patch", "registries.windlass.dev", false),
            ("update", "registries.windlass.dev", false),
            ("create", "pods", false),
            ("create", "pods/exec", false),
            ("delete", "pods", false),
            ("get", "nodes", false),
            ("impersonate", "users", false),
            // It binds to one role, that for access reviews, and to no other.
            ("bind", "clusterroles.rbac.authorization.k8s.io", false),
            ("escalate", "clusterroles.rbac.authorization.k8s.io", false),
            ("create", "clusterrolebindings.rbac.authorization.k8s.io", false),
            ("create", "roles.rbac.authorization.k8s.io", false),
            ("patch", "customresourcedefinitions.apiextensions.k8s.io", false),
        ] {
            assert_eq!(may(namespace, verb, resource).await?, expected, "{verb} {resource}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn another_operator_takes_over_when_the_leader_is_killed() -> Outcome {
    with_namespace("failover", async |namespace| {
        let pods = system::pods(&namespace.client).await?;
        ensure!(pods.len() >= 2, "there is nobody to take over");
        let leader = system::leader(&namespace.client).await?;
        system::delete_pod(&namespace.client, &leader, 0).await?;
        let next = system::leader_other_than(&namespace.client, &leader).await?;
        println!("{next} took over from {leader}");
        registry::quick(namespace).await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}
