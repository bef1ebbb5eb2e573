//! The Secrets of a Registry with a certificate authority of its own: what the server presents, and the authority's key.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::{child, metadata};
use crate::children::{Child, Kind};
use crate::names;
use crate::registry::validate::{Certificate, Valid};

/// Both Secrets, or none if the certificate comes from elsewhere.
pub(super) fn build(valid: &Valid<'_>) -> Vec<Child> {
    let Certificate::Own(material) = &valid.certificate else { return Vec::new() };
    let authority = [("tls.crt", &material.authority.certificate), ("tls.key", &material.authority.key)];
    let serving = [
        ("ca.crt", &material.bundle),
        ("tls.crt", &material.leaf.certificate),
        ("tls.key", &material.leaf.key),
    ];
    vec![
        secret(valid, names::authority_secret(&valid.name), &authority),
        secret(valid, names::tls_secret(&valid.name), &serving),
    ]
}

fn secret(valid: &Valid<'_>, name: String, entries: &[(&str, &String)]) -> Child {
    let data: BTreeMap<String, ByteString> =
        entries.iter().map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec()))).collect();
    let secret = Secret {
        metadata: metadata(valid, name.clone()),
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    child(Kind::Secret, name, &secret)
}
