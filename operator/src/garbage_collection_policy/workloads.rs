//! Which images the workloads of the cluster use: the one read that is made just before a run begins.
//!
//! Everything that can start a Pod again counts: what runs, what is scaled to zero, what a rollback would bring back.
//! Objects are read page by page, and nothing is kept of them but their images.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

use crate::apply::server_message;

/// Objects that one request asks for.
const PAGE: u32 = 500;

/// What was found out about the workloads of the cluster.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Workloads {
    /// The images that they name, each with the first that was found to use it, such as `Deployment shop/web`.
    pub images: BTreeMap<String, String>,
    /// The hosts of the Ingresses of the cluster, with the namespace and the Service that they lead to.
    pub ingresses: Vec<(String, String, String)>,
    /// Why this is not all: the kinds that could not be listed.
    pub failures: Vec<String>,
}

/// Lists the workloads of all namespaces. What cannot be listed is among the failures.
pub async fn survey(client: &Client) -> Workloads {
    let mut workloads = Workloads::default();
    for (resource, templates) in kinds() {
        let images = &mut workloads.images;
        let seen = each(client, &resource, |object| {
            let by =
                format!("{} {}/{}", resource.kind, object.namespace().unwrap_or_default(), object.name_any());
            for image in images_of(&object.data, templates) {
                images.entry(image.to_owned()).or_insert_with(|| by.clone());
            }
        });
        if let Err(error) = seen.await {
            workloads.failures.push(format!("{}: {}", resource.plural, server_message(&error)));
        }
    }
    let ingresses = &mut workloads.ingresses;
    let resource = ApiResource::erase::<Ingress>(&());
    if let Err(error) = each(client, &resource, |object| ingresses.extend(routes(object))).await {
        workloads.failures.push(format!("{}: {}", resource.plural, server_message(&error)));
    }
    workloads
}

/// The kinds that lead to Pods, and where their Pod is described. Those that people know by name come first: an image is
/// reported as used by the first that names it.
fn kinds() -> [(ApiResource, &'static str); 9] {
    const TEMPLATE: &str = "/spec/template/spec";
    [
        (ApiResource::erase::<Deployment>(&()), TEMPLATE),
        (ApiResource::erase::<StatefulSet>(&()), TEMPLATE),
        (ApiResource::erase::<DaemonSet>(&()), TEMPLATE),
        (ApiResource::erase::<CronJob>(&()), "/spec/jobTemplate/spec/template/spec"),
        (ApiResource::erase::<Job>(&()), TEMPLATE),
        (ApiResource::erase::<ReplicationController>(&()), TEMPLATE),
        (ApiResource::erase::<ReplicaSet>(&()), TEMPLATE),
        (ApiResource::erase::<ControllerRevision>(&()), "/data/spec/template/spec"),
        (ApiResource::erase::<Pod>(&()), "/spec"),
    ]
}

async fn each(
    client: &Client,
    resource: &ApiResource,
    mut visit: impl FnMut(&DynamicObject),
) -> Result<(), kube::Error> {
    let api = Api::<DynamicObject>::all_with(client.clone(), resource);
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        page.items.iter().for_each(&mut visit);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// The images that the Pod described at `pointer` names, and those that its containers were found to run.
fn images_of<'a>(object: &'a Value, pointer: &str) -> Vec<&'a str> {
    let list = |at: Option<&'a Value>| at.and_then(Value::as_array).into_iter().flatten();
    let spec = object.pointer(pointer);
    let named = ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| list(spec.and_then(|spec| spec.get(field))))
        .filter_map(|container| container.get("image"));
    let mounted = list(spec.and_then(|spec| spec.get("volumes")))
        .filter_map(|volume| volume.pointer("/image/reference"));
    let running = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"]
        .into_iter()
        .flat_map(|field| list(object.get("status").and_then(|status| status.get(field))))
        .flat_map(|container| [container.get("image"), container.get("imageID")])
        .flatten();
    named.chain(mounted).chain(running).filter_map(Value::as_str).collect()
}

fn routes(ingress: &DynamicObject) -> Vec<(String, String, String)> {
    let namespace = ingress.namespace().unwrap_or_default();
    let rules = ingress.data.pointer("/spec/rules").and_then(Value::as_array).into_iter().flatten();
    rules
        .filter_map(|rule| Some((rule.get("host")?.as_str()?, rule.pointer("/http/paths")?.as_array()?)))
        .flat_map(|(host, paths)| {
            let services = paths.iter().filter_map(|path| path.pointer("/backend/service/name")?.as_str());
            services
                .map(|service| (host.to_owned(), namespace.clone(), service.to_owned()))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{images_of, kinds, routes};
    use serde_json::json;

    #[test]
    fn every_place_of_an_image_is_looked_at() {
        let pod = json!({
            "spec": {
                "containers": [{"image": "a"}, {"image": "b"}, {"name": "without"}],
                "initContainers": [{"image": "c"}],
                "ephemeralContainers": [{"image": "d"}],
                "volumes": [{"image": {"reference": "e"}}, {"emptyDir": {}}],
            },
            "status": {
                "containerStatuses": [{"image": "f", "imageID": "f@sha256:1"}],
                "initContainerStatuses": [{"image": "g", "imageID": "g@sha256:2"}],
                "ephemeralContainerStatuses": [{"image": "h"}],
            },
        });
        let expected = ["a", "b", "c", "d", "e", "f", "f@sha256:1", "g", "g@sha256:2", "h"];
        assert_eq!(images_of(&pod, "/spec"), expected);
        assert_eq!(images_of(&json!({}), "/spec"), [""; 0]);
    }

    #[test]
    fn each_kind_describes_its_pod_where_we_look() {
        let spec = json!({"containers": [{"image": "i"}]});
        for (resource, pointer) in kinds() {
            let object = match resource.kind.as_str() {
                "Pod" => json!({"spec": spec}),
                "CronJob" => json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}}),
                "ControllerRevision" => json!({"data": {"spec": {"template": {"spec": spec}}}}),
                _ => json!({"spec": {"template": {"spec": spec}}}),
            };
            assert_eq!(images_of(&object, pointer), ["i"], "{}", resource.kind);
        }
    }

    #[test]
    fn an_ingress_gives_its_hosts_to_the_services_behind_them() {
        let path = |service: &str| json!({"backend": {"service": {"name": service}}});
        let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "i", "namespace": "n"},
        "spec": {"rules": [
            {"host": "a.example", "http": {"paths": [path("hub"), path("web")]}},
            {"http": {"paths": [path("hub")]}},
            {"host": "b.example"},
        ]}});
        let found = routes(&serde_json::from_value(ingress).unwrap());
        let route = |service: &str| ("a.example".to_owned(), "n".to_owned(), service.to_owned());
        assert_eq!(found, [route("hub"), route("web")]);
    }
}
