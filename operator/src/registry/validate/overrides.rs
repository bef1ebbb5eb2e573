//! Checks `spec.overrides`: it must fit the object and keep off what ties the objects together.

use k8s_openapi::api::apps::v1::DeploymentSpec;
use k8s_openapi::api::core::v1::ServiceSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::registry::Overrides;
use crate::api::shared::Fragment;
use crate::registry::problem::Problem;

/// Checks each fragment on its own.
///
/// # Errors
/// [`Problem::InvalidOverride`], naming the field.
pub(super) fn check(overrides: Option<&Overrides>) -> Result<(), Problem> {
    let Some(overrides) = overrides else { return Ok(()) };
    if let Some(deployment) = &overrides.deployment {
        fragment::<DeploymentSpec>("deployment", deployment, &["selector", "replicas"])?;
    }
    if let Some(service) = &overrides.service {
        fragment::<ServiceSpec>("service", service, &["selector"])?;
    }
    Ok(())
}

fn fragment<Spec: DeserializeOwned>(object: &str, fragment: &Fragment, kept: &[&str]) -> Result<(), Problem> {
    for (section, value) in fragment {
        let path = format!("{object}.{section}");
        match section.as_str() {
            "metadata" => {
                only(&path, value, |field| ["labels", "annotations"].contains(&field))?;
                fits::<ObjectMeta>(&path, value)?;
            }
            "spec" => {
                only(&path, value, |field| !kept.contains(&field))?;
                fits::<Spec>(&path, value)?;
            }
            _ => return Err(refused(path)),
        }
    }
    Ok(())
}

fn only(path: &str, value: &Value, allowed: impl Fn(&str) -> bool) -> Result<(), Problem> {
    let mut fields = value.as_object().into_iter().flat_map(|fields| fields.keys());
    fields.find(|field| !allowed(field)).map_or(Ok(()), |field| Err(refused(format!("{path}.{field}"))))
}

fn refused(field: String) -> Problem {
    Problem::InvalidOverride {
        field,
        message: "it belongs to the operator and cannot be overridden".to_owned(),
    }
}

fn fits<T: DeserializeOwned>(path: &str, value: &Value) -> Result<(), Problem> {
    serde_path_to_error::deserialize::<_, T>(value).map(|_| ()).map_err(|error| {
        let field = match error.path().to_string().as_str() {
            "." => path.to_owned(),
            inner => format!("{path}.{inner}"),
        };
        Problem::InvalidOverride { field, message: error.inner().to_string() }
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::api::registry::Overrides;
    use serde_json::{Value, json};

    fn outcome(overrides: Value) -> Result<(), String> {
        let overrides: Overrides = serde_json::from_value(overrides).unwrap();
        check(Some(&overrides)).map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_fragment_that_fits_is_accepted() {
        for overrides in [
            json!({}),
            json!({"deployment": {"metadata": {"labels": {"a": "b"}}}}),
            json!({"deployment": {"spec": {"template": {"spec": {"hostNetwork": true}}}}}),
            json!({"deployment": {"spec": {"template": {"spec": {"containers": [{"name": "registry"}]}}}}}),
            json!({"service": {"spec": {"externalTrafficPolicy": "Local", "sessionAffinity": null}}}),
        ] {
            assert_eq!(outcome(overrides.clone()), Ok(()), "{overrides}");
        }
    }

    #[test]
    fn a_fragment_that_does_not_fit_is_refused_with_its_field() {
        for (overrides, field) in [
            (json!({"deployment": {"kind": "Pod"}}), "spec.overrides.deployment.kind:"),
            (json!({"deployment": {"metadata": {"name": "x"}}}), "spec.overrides.deployment.metadata.name:"),
            (json!({"deployment": {"spec": {"selector": {}}}}), "spec.overrides.deployment.spec.selector:"),
            (json!({"deployment": {"spec": {"replicas": 2}}}), "spec.overrides.deployment.spec.replicas:"),
            (json!({"service": {"spec": {"selector": {}}}}), "spec.overrides.service.spec.selector:"),
            (
                json!({"deployment": {"spec": {"template": {"spec": {"hostNetwork": "yes"}}}}}),
                "spec.overrides.deployment.spec.template.spec.hostNetwork:",
            ),
            (json!({"service": {"spec": []}}), "spec.overrides.service.spec:"),
        ] {
            let message = outcome(overrides).unwrap_err();
            assert!(message.starts_with(field), "{message}");
        }
    }
}
