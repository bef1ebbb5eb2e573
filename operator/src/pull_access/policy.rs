//! The policy by which the API server itself adds a pull secret to Pods: no webhook, nothing that has to run.

use serde_json::{Value, json};

use super::validate::Access;
use crate::children::{Child, Kind};
use crate::names;

/// The policy and what binds it to the selected namespaces.
pub(super) fn build(access: &Access<'_>) -> Vec<Child> {
    let name = names::pull_policy(&access.name, &access.namespace);
    let object = |kind: Kind, spec: Value| {
        let resource = kind.resource();
        let metadata = json!({"name": name, "labels": names::pull_labels(&access.name, &access.namespace)});
        let object = json!({
            "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec,
        });
        Child { key: (kind, name.clone()), object }
    };
    let selector = access.registry.spec.pull_access.as_ref().map(|asked| &asked.namespace_selector);
    let binding = json!({"policyName": name, "matchResources": {"namespaceSelector": selector}});
    vec![
        object(Kind::MutatingAdmissionPolicy, policy(access)),
        object(Kind::MutatingAdmissionPolicyBinding, binding),
    ]
}

/// Pods that are made, and use an image of the Registry, and do not name the Secret yet. An ephemeral container comes
/// too late for it: the list of a Pod's pull secrets cannot change.
fn policy(access: &Access<'_>) -> Value {
    let secret = json!(names::pull_secret(&access.name, &access.namespace));
    let uses_the_registry = format!(
        "(object.spec.containers.map(c, c.?image.orValue('')) + \
         object.spec.?initContainers.orValue([]).map(c, c.?image.orValue('')))\
         .exists(image, {}.exists(host, image.startsWith(host + '/')))",
        json!(access.hosts)
    );
    let names_it_not =
        format!("!object.spec.?imagePullSecrets.orValue([]).exists(s, s.?name.orValue('') == {secret})");
    // The list is made first, and empty: the API server of Kubernetes 1.36 panics at a list of objects as a value.
    let add = format!(
        "(has(object.spec.imagePullSecrets) ? [] : \
         [JSONPatch{{op: 'add', path: '/spec/imagePullSecrets', value: []}}]) + \
         [JSONPatch{{op: 'add', path: '/spec/imagePullSecrets/-', \
         value: Object.spec.imagePullSecrets{{name: {secret}}}}}]"
    );
    json!({
        // Without our help a pull may fail; with a failing policy no Pod at all would start.
        "failurePolicy": "Ignore",
        "reinvocationPolicy": "IfNeeded",
        "matchConstraints": {
            "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
            }],
        },
        "matchConditions": [
            {"name": "uses-the-registry", "expression": uses_the_registry},
            {"name": "does-not-name-the-secret", "expression": names_it_not},
        ],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": add}}],
    })
}
