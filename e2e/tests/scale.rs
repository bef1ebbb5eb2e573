//! A Registry is scaled like a Deployment.

use anyhow::ensure;
use e2e::case::{Outcome, with_namespace};
use e2e::registry::{self, NAME};
use e2e::tools;
use operator::api::registry::Registry;
use operator::names;

#[tokio::test]
async fn kubectl_scales_a_registry_to_nothing_and_back() -> Outcome {
    with_namespace("scale", async |namespace| {
        registry::quick(namespace).await?;
        let scale = async |replicas: &str| {
            let arguments =
                ["--namespace", &namespace.name, "scale", "registry/registry", "--replicas", replicas];
            tools::run("kubectl", &arguments).await
        };
        scale("0").await?;
        registry::unready(namespace, NAME, "ScaledToZero").await?;
        let none = |status: &operator::api::status::RegistryStatus| status.replicas == 0;
        registry::observed(namespace, NAME, "it to have no servers", none).await?;
        scale("1").await?;
        registry::ready(namespace, NAME).await?;

        let seen = namespace.api::<Registry>().get_scale(NAME).await?.status.unwrap_or_default();
        assert_eq!((seen.replicas, seen.selector), (1, Some(names::selector_text(NAME))));
        let refused = scale("2").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(refused.contains("more than one replica needs"), "{refused:?}");
        Ok(())
    })
    .await
}
