//! The kubelet's credential provider: the token of a Pod's own `ServiceAccount` is what its images are pulled with.
//!
//! The kubelet starts this program for an image that its configuration names, writes a request to its standard input and
//! reads the answer from its standard output (`credentialprovider.kubelet.k8s.io/v1`; tokens by KEP-4412). Nothing is
//! read from the cluster and nothing is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the kubelet's API that is spoken.
const API_VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";

/// The name beside the token. Registries do not look at it.
const USERNAME: &str = "serviceaccount";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Standard input is no request.
    #[error("standard input is no request of a kubelet")]
    Unreadable(#[from] serde_json::Error),
    /// The kubelet speaks another version.
    #[error(
        "the kubelet asks as {found}, expected {API_VERSION}; set apiVersion in its CredentialProviderConfig"
    )]
    Version {
        /// Its version.
        found: String,
    },
    /// There is nothing to answer with.
    #[error("the kubelet sent no token; set tokenAttributes in its CredentialProviderConfig")]
    NoToken,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    api_version: String,
    image: String,
    #[serde(default)]
    service_account_token: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    kind: &'static str,
    api_version: &'static str,
    /// How the kubelet keeps the answer: for all images of the registry, for the time that its configuration says.
    cache_key_type: &'static str,
    auth: BTreeMap<&'a str, Auth<'a>>,
}

#[derive(Serialize)]
struct Auth<'a> {
    username: &'static str,
    password: &'a str,
}

/// The answer to a kubelet's request, both as JSON.
///
/// # Errors
/// [`Error`] for what is no request with a token.
pub fn answer(request: &str) -> Result<String, Error> {
    let Request { api_version, image, service_account_token } = serde_json::from_str(request)?;
    if api_version != API_VERSION {
        return Err(Error::Version { found: api_version });
    }
    if service_account_token.is_empty() {
        return Err(Error::NoToken);
    }
    let registry = image.split('/').next().unwrap_or_default();
    let auth = Auth { username: USERNAME, password: &service_account_token };
    Ok(serde_json::to_string(&Response {
        kind: "CredentialProviderResponse",
        api_version: API_VERSION,
        cache_key_type: "Registry",
        auth: BTreeMap::from([(registry, auth)]),
    })?)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(fields: &Value) -> String {
        let mut request = json!({
            "kind": "CredentialProviderRequest", "apiVersion": API_VERSION,
            "image": "registry.team-a.svc:5000/team/app:v1", "serviceAccountToken": "eyJ.a.b",
            "serviceAccountAnnotations": {},
        });
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        request.to_string()
    }

    #[test]
    fn the_token_is_the_password_for_the_images_registry() {
        let answer: Value = serde_json::from_str(&answer(&request(&json!({}))).unwrap()).unwrap();
        let auth = json!({"registry.team-a.svc:5000": {"username": "serviceaccount", "password": "eyJ.a.b"}});
        let expected = json!({
            "kind": "CredentialProviderResponse", "apiVersion": API_VERSION, "cacheKeyType": "Registry", "auth": auth,
        });
        assert_eq!(answer, expected);
    }

    #[test]
    fn what_is_no_request_with_a_token_is_refused_with_the_setting_to_change() {
        let rows = [
            (request(&json!({"serviceAccountToken": ""})), "set tokenAttributes"),
            (request(&json!({"apiVersion": "credentialprovider.kubelet.k8s.io/v1beta1"})), "set apiVersion"),
            ("{}".to_owned(), "no request of a kubelet"),
            (String::new(), "no request of a kubelet"),
        ];
        for (request, expected) in rows {
            let error = answer(&request).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
