//! Tokens of Kubernetes' `ServiceAccount`s, verified by the cluster's public keys without asking the cluster.
//!
//! A token is a JWT (RFC 7519) that the API server has signed for one audience. It is believed until it ends, an hour
//! after it was made in the usual case, also when its Pod is deleted before.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

use super::Identity;
use super::followed::Followed;
use crate::config;

/// The claims that every token must have.
const CLAIMS: [&str; 4] = ["iss", "aud", "sub", "exp"];

/// A file of keys that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("read the cluster's keys from {}", path.display())]
pub struct Error {
    /// Path of the file.
    path: PathBuf,
    /// Why not.
    source: io::Error,
}

/// Knows tokens that the cluster has signed for this registry.
#[derive(Debug)]
pub(super) struct Kubernetes {
    keys: Followed<Keys>,
    issuer: String,
    audience: String,
}

/// Public keys by their ids.
type Keys = HashMap<String, (DecodingKey, Algorithm)>;

impl Kubernetes {
    /// Reads the keys.
    ///
    /// # Errors
    /// When the file is no set of keys.
    pub(super) fn open(settings: &config::Kubernetes) -> Result<Self, Error> {
        let path = &settings.jwks;
        let keys = Followed::open(path, read).map_err(|source| Error { path: path.clone(), source })?;
        Ok(Self { keys, issuer: settings.issuer.clone(), audience: settings.audience.clone() })
    }

    /// The `ServiceAccount` that a token is of; `None` for a token that is not the cluster's, is for another audience, is no
    /// `ServiceAccount`'s, or has ended.
    pub(super) fn verify(&self, token: &str) -> Option<Identity> {
        let claims = self.claims(token);
        let claims = claims.inspect_err(|error| tracing::debug!(%error, "a token is refused")).ok()?;
        let identity = Identity::of_service_account(claims.get("sub")?.as_str()?)?;
        Some(Identity { claims, ..identity })
    }

    fn claims(&self, token: &str) -> jsonwebtoken::errors::Result<Value> {
        let id = decode_header(token)?.kid.unwrap_or_default();
        let keys = self.keys.current();
        let Some((key, algorithm)) = keys.get(&id) else {
            return Err(jsonwebtoken::errors::ErrorKind::InvalidSignature.into());
        };
        // The algorithm is the key's, whatever the token says.
        let mut validation = Validation::new(*algorithm);
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&CLAIMS);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        Ok(decode(token, key, &validation)?.claims)
    }
}

/// Whether a password is rather a token: a JWT begins with an object in base64url and has two dots.
pub(super) fn is_token(password: &str) -> bool {
    password.starts_with("eyJ") && password.matches('.').count() == 2
}

fn read(path: &Path) -> io::Result<Keys> {
    let set: JwkSet = serde_json::from_slice(&fs::read(path)?)?;
    let keys: Keys = set.keys.iter().filter_map(usable).collect();
    if keys.is_empty() {
        return Err(io::Error::other("there is no key of an algorithm with public keys"));
    }
    Ok(keys)
}

/// A key with its id. One that both sides share would let everyone sign who may verify.
fn usable(key: &Jwk) -> Option<(String, (DecodingKey, Algorithm))> {
    let is_public =
        matches!(key.algorithm, AlgorithmParameters::RSA(_) | AlgorithmParameters::EllipticCurve(_));
    let algorithm = key.common.key_algorithm.filter(|_| is_public)?.try_into().ok()?;
    Some((key.common.key_id.clone()?, (DecodingKey::from_jwk(key).ok()?, algorithm)))
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
    const AUDIENCE: &str = "registry.team-a.svc";

    /// A key of a cluster.
    struct Key {
        id: &'static str,
        private: EncodingKey,
        public: Value,
    }

    impl Key {
        fn new(id: &'static str) -> Self {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let point = pair.public_key().as_ref();
            let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
            let public =
                json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": x, "y": y});
            Self { id, private: EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref()), public }
        }

        fn signs(&self, claims: &Value) -> String {
            let header = Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::ES256) };
            encode(&header, claims, &self.private).unwrap()
        }
    }

    fn write(path: &Path, keys: &[&Key]) {
        let keys: Vec<&Value> = keys.iter().map(|key| &key.public).collect();
        let next = path.with_extension("next");
        fs::write(&next, json!({ "keys": keys }).to_string()).unwrap();
        fs::rename(next, path).unwrap();
    }

    fn settings(jwks: &Path) -> config::Kubernetes {
        let (issuer, audience) = (ISSUER.to_owned(), AUDIENCE.to_owned());
        config::Kubernetes { issuer, audience, jwks: jwks.to_owned(), accessreview: None }
    }

    fn open(path: &Path) -> Kubernetes {
        let Kubernetes { keys, issuer, audience } = Kubernetes::open(&settings(path)).unwrap();
        Kubernetes { keys: keys.without_interval(), issuer, audience }
    }

    /// In so many seconds.
    fn time(offset: i64) -> i64 {
        i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap() + offset
    }

    fn claims() -> Value {
        json!({
            "iss": ISSUER, "aud": ["another", AUDIENCE], "sub": "system:serviceaccount:team-a:builder",
            "exp": time(600), "nbf": time(-5), "iat": time(-5),
            "kubernetes.io": {"namespace": "team-a", "serviceaccount": {"name": "builder", "uid": "1"}},
        })
    }

    fn with(claim: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[claim] = value;
        claims
    }

    fn without(claim: &str) -> Value {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim);
        claims
    }

    #[test]
    fn a_token_of_the_cluster_for_this_registry_is_its_service_account() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jwks.json");
        let (key, stranger) = (Key::new("a"), Key::new("a"));
        write(&path, &[&key, &Key::new("b")]);
        let kubernetes = open(&path);
        let identity = kubernetes.verify(&key.signs(&claims())).unwrap();
        assert_eq!(identity.user.as_deref(), Some("system:serviceaccount:team-a:builder"));
        assert_eq!(identity.service_account(), Some(("team-a", Some("builder"))));
        let groups = ["system:serviceaccounts", "system:serviceaccounts:team-a", "system:authenticated"];
        assert_eq!(identity.groups, groups);
        assert_eq!(identity.claims["kubernetes.io"], claims()["kubernetes.io"]);
        assert!(kubernetes.verify(&key.signs(&with("aud", json!(AUDIENCE)))).is_some());

        let signed = key.signs(&claims());
        let (content, signature) = signed.rsplit_once('.').unwrap();
        let (_, payload) = content.split_once('.').unwrap();
        let unsigned = URL_SAFE_NO_PAD.encode(json!({"alg": "none", "kid": "a"}).to_string());
        let shared = Header { kid: Some("a".to_owned()), ..Header::new(Algorithm::HS256) };
        let public = EncodingKey::from_secret(key.public["x"].as_str().unwrap().as_bytes());
        let rows = [
            ("another key", stranger.signs(&claims())),
            ("an unknown key", Key::new("c").signs(&claims())),
            ("another issuer", key.signs(&with("iss", json!("https://elsewhere")))),
            ("another audience", key.signs(&with("aud", json!(["another"])))),
            ("no audience", key.signs(&without("aud"))),
            ("no issuer", key.signs(&without("iss"))),
            ("no end", key.signs(&without("exp"))),
            ("ended", key.signs(&with("exp", json!(time(-120))))),
            ("not begun", key.signs(&with("nbf", json!(time(120))))),
            ("no subject", key.signs(&without("sub"))),
            (
                "a subject that is no text",
                key.signs(&with("sub", json!(["system:serviceaccount:team-a:builder"]))),
            ),
            ("no ServiceAccount", key.signs(&with("sub", json!("system:node:n1")))),
            ("all of a namespace", key.signs(&with("sub", json!("system:serviceaccounts:team-a")))),
            ("half a ServiceAccount", key.signs(&with("sub", json!("system:serviceaccount:team-a")))),
            ("no signature", format!("{content}.")),
            ("another's signature", format!("{content}.{}", signature.chars().rev().collect::<String>())),
            ("an unsigned token", format!("{unsigned}.{payload}.")),
            ("signed by what is public", encode(&shared, &claims(), &public).unwrap()),
            ("no token", "eyJ.eyJ.x".to_owned()),
            ("nothing", String::new()),
        ];
        for (what, token) in rows {
            assert_eq!(kubernetes.verify(&token), None, "{what}");
        }
    }

    #[test]
    fn keys_are_followed_as_the_cluster_changes_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jwks.json");
        let (old, new) = (Key::new("old"), Key::new("new"));
        write(&path, &[&old]);
        let kubernetes = open(&path);
        let known = |key: &Key| kubernetes.verify(&key.signs(&claims())).is_some();
        assert_eq!((known(&old), known(&new)), (true, false));
        write(&path, &[&old, &new]);
        assert_eq!((known(&old), known(&new)), (true, true));
        fs::write(&path, "no keys").unwrap();
        assert_eq!((known(&old), known(&new)), (true, true), "what cannot be read changes nothing");
        write(&path, &[&new]);
        assert_eq!((known(&old), known(&new)), (false, true));
    }

    #[test]
    fn what_is_no_set_of_public_keys_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jwks.json");
        let secret = json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": "a", "k": "c2VjcmV0"}]});
        for text in ["", "{}", r#"{"keys": []}"#, &secret.to_string()] {
            fs::write(&path, text).unwrap();
            assert!(Kubernetes::open(&settings(&path)).is_err(), "{text}");
        }
    }

    #[test]
    fn tokens_are_told_from_passwords() {
        let rows =
            [("eyJhbGciOiJFUzI1NiJ9.e30.x", true), ("eyJ", false), ("a.b.c", false), ("secret", false)];
        for (password, expected) in rows {
            assert_eq!(is_token(password), expected, "{password}");
        }
    }
}
