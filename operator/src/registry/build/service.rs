//! The Service: the registry's one port, and nothing of the debug port.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{filled, metadata, overridden};
use crate::api::registry::ServiceType;
use crate::children::{Child, Kind};
use crate::names;
use crate::registry::validate::Valid;
use crate::registry::validate::server_config::PORT;

pub(super) fn build(valid: &Valid<'_>) -> Child {
    let settings = &valid.spec.service;
    let mut metadata = metadata(valid, valid.name.clone());
    metadata.annotations = filled(settings.annotations.clone());
    let service = Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(type_name(settings.type_).to_owned()),
            selector: Some(names::selector(&valid.name)),
            ports: Some(vec![ServicePort {
                name: Some(names::PORT.to_owned()),
                port: PORT,
                target_port: Some(IntOrString::String(names::PORT.to_owned())),
                node_port: settings.node_port,
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    let fragment = valid.spec.overrides.as_ref().and_then(|overrides| overrides.service.as_ref());
    overridden(Kind::Service, valid.name.clone(), &service, fragment)
}

fn type_name(type_: ServiceType) -> &'static str {
    match type_ {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    }
}
