//! Checks the Secrets that a spec names. What they hold never appears in a message.

use k8s_openapi::api::core::v1::Secret;

use crate::api::registry::RegistrySpec;
use crate::registry::dereference::Found;
use crate::registry::problem::{HTPASSWD_FIELD, Problem};
use crate::tls::KeyPairPem;

/// Checks the htpasswd file, if one is asked for.
///
/// # Errors
/// The [`Problem`] of the Secret, the key or the line.
pub(super) fn htpasswd(spec: &RegistrySpec, found: &Found) -> Result<(), Problem> {
    let Some(reference) = spec.auth.as_ref().and_then(|auth| auth.htpasswd_secret_ref.as_ref()) else {
        return Ok(());
    };
    let text = value(found.htpasswd.as_ref(), &reference.name, &reference.key, HTPASSWD_FIELD)?;
    match first_malformed_line(&text) {
        None => Ok(()),
        Some(line) => {
            Err(Problem::HtpasswdMalformed { name: reference.name.clone(), key: reference.key.clone(), line })
        }
    }
}

/// Reads the certificate and key of a Secret of type `kubernetes.io/tls`.
///
/// # Errors
/// The [`Problem`] of the Secret or the key.
pub(super) fn key_pair(
    secret: Option<&Secret>,
    name: &str,
    field: &'static str,
) -> Result<KeyPairPem, Problem> {
    Ok(KeyPairPem {
        certificate: value(secret, name, "tls.crt", field)?,
        key: value(secret, name, "tls.key", field)?,
    })
}

/// The text under `key`; bytes that are not UTF-8 are replaced, and so fail where the text is read.
fn value(secret: Option<&Secret>, name: &str, key: &str, field: &'static str) -> Result<String, Problem> {
    let secret = secret.ok_or_else(|| Problem::SecretNotFound { name: name.to_owned(), field })?;
    let bytes = secret
        .data
        .as_ref()
        .and_then(|data| data.get(key))
        .ok_or_else(|| Problem::SecretKeyMissing { name: name.to_owned(), key: key.to_owned(), field })?;
    Ok(String::from_utf8_lossy(&bytes.0).into_owned())
}

/// Number, from 1, of the first line that is neither empty, nor a comment, nor `user:bcrypt-hash`.
fn first_malformed_line(text: &str) -> Option<usize> {
    let is_good = |line: &str| {
        let line = line.trim();
        line.is_empty()
            || line.starts_with('#')
            || line.split_once(':').is_some_and(|(user, hash)| !user.is_empty() && is_bcrypt(hash))
    };
    text.lines().position(|line| !is_good(line)).map(|index| index + 1)
}

fn is_bcrypt(hash: &str) -> bool {
    let prefix = ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix));
    prefix && hash.len() == 60 && hash.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::first_malformed_line;

    const GOOD: &str = "ada:$2y$05$abcdefghijklmnopqrstuuDLqKqOSxOTQ5wL3lJjMhBBYl9J9mXOK";

    #[test]
    fn the_first_line_that_is_no_user_is_found() {
        for (text, expected) in [
            (String::new(), None),
            (format!("{GOOD}\n"), None),
            (format!("# users\n\n  {GOOD}  \r\n"), None),
            ("ada".to_owned(), Some(1)),
            ("ada:secret".to_owned(), Some(1)),
            (format!("{GOOD}\nbob:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"), Some(2)),
            (format!("{GOOD}\n{GOOD}x\n"), Some(2)),
            (format!("\n\n:{GOOD}"), Some(3)),
            (GOOD.replace("$2y$", "$1$ab"), Some(1)),
        ] {
            assert_eq!(first_malformed_line(&text), expected, "{text:?}");
        }
    }
}
