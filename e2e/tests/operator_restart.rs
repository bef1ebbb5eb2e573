//! The operator may die at any time: what runs goes on, and what was begun is finished.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::ensure;
use e2e::case::{Outcome, with_namespace};
use e2e::namespace::Namespace;
use e2e::registry::{self, NAME};
use e2e::{oci, system};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use operator::api::registry::Registry;

/// Ends all of the operator's Pods at once: with `grace` 0 without a word of warning, so that the lease has to run out.
async fn end_operator(namespace: &Namespace, grace: u32) -> anyhow::Result<()> {
    for pod in system::pods(&namespace.client).await? {
        system::delete_pod(&namespace.client, &pod.name_any(), grace).await?;
    }
    Ok(())
}

#[tokio::test]
async fn pulls_go_on_while_there_is_no_operator() -> Outcome {
    with_namespace("no-operator", async |namespace| {
        registry::quick(namespace).await?;
        let (_forward, client) = registry::reach_as_user(namespace).await?;
        oci::push(&client, "team/app", "v1", "layer").await?;
        let before = namespace.api::<Deployment>().get(NAME).await?.metadata;

        let stop = Arc::new(AtomicBool::new(false));
        let pulling = tokio::spawn({
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            async move {
                let mut pulls = 0;
                while !stop.load(Ordering::Relaxed) {
                    oci::pull(&client, "team/app", "v1").await?;
                    pulls += 1;
                }
                anyhow::Ok(pulls)
            }
        });
        let former = system::leader(&namespace.client).await?;
        end_operator(namespace, 0).await?;
        system::leader_other_than(&namespace.client, &former).await?;
        stop.store(true, Ordering::Relaxed);
        let pulls = pulling.await??;
        println!("{pulls} pulls went well meanwhile");
        ensure!(pulls > 0, "nothing was pulled meanwhile");

        // Drift is repaired again, by an operator that found everything else as it should be.
        let after = namespace.api::<Deployment>().get(NAME).await?.metadata;
        assert_eq!(after.generation, before.generation, "the Deployment was changed");
        registry::apply(namespace, NAME, registry::spec()).await?;
        registry::ready(namespace, NAME).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_was_begun_is_finished_by_the_next_operator() -> Outcome {
    with_namespace("half-done", async |namespace| {
        registry::apply_users(namespace, registry::USERS, &[(registry::USER, registry::PASSWORD)]).await?;
        // Several at once, so that the operator ends somewhere amid the steps of some of them.
        let names = ["one", "two", "three"];
        for name in names {
            registry::apply(namespace, name, registry::spec()).await?;
        }
        end_operator(namespace, 30).await?;
        let mut ready = BTreeMap::new();
        for name in names {
            ready.insert(name, registry::ready(namespace, name).await?.uid());
        }
        let all = namespace.api::<Registry>().list(&ListParams::default()).await?;
        assert_eq!(all.items.len(), ready.len());
        for name in names {
            namespace.api::<Registry>().delete(name, &DeleteParams::background()).await?;
        }
        Ok(())
    })
    .await
}
