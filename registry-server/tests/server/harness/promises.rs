//! What holds for every answer under `/v2/`, whatever was asked.

use http::Method;

use super::client::Answer;
use super::content::{sha256, sha512};

/// The status that belongs to each error code: those of the OCI specification, and of CNCF distribution beyond it.
const STATUS_OF_CODE: [(&str, u16); 19] = [
    ("BLOB_UNKNOWN", 404),
    ("BLOB_UPLOAD_INVALID", 404),
    ("BLOB_UPLOAD_UNKNOWN", 404),
    ("DENIED", 403),
    ("DIGEST_INVALID", 400),
    ("MANIFEST_BLOB_UNKNOWN", 400),
    ("MANIFEST_INVALID", 400),
    ("MANIFEST_UNKNOWN", 404),
    ("NAME_INVALID", 400),
    ("NAME_UNKNOWN", 404),
    ("PAGINATION_NUMBER_INVALID", 400),
    ("RANGE_INVALID", 416),
    ("TAG_INVALID", 400),
    ("TOOMANYREQUESTS", 429),
    ("UNAUTHORIZED", 401),
    ("UNAVAILABLE", 503),
    ("UNKNOWN", 500),
    ("SIZE_INVALID", 400),
    ("UNSUPPORTED", 405),
];

fn is_of(digest: &str, body: &[u8]) -> bool {
    digest == if digest.starts_with("sha512:") { sha512(body) } else { sha256(body) }
}

/// A sentence for each promise that the answer breaks.
pub(crate) fn broken(method: &Method, answer: &Answer) -> Vec<String> {
    let mut broken = Vec::new();
    let mut promise = |kept: bool, says: &str| {
        if !kept {
            broken.push(says.to_owned());
        }
    };
    promise(
        answer.header("docker-distribution-api-version") == Some("registry/2.0"),
        "every answer carries Docker-Distribution-Api-Version: registry/2.0",
    );
    promise(
        answer.header("location").is_none_or(|location| location.starts_with('/')),
        "a Location is relative, so that no proxy can make it wrong",
    );
    promise(
        answer.status != 405 || answer.headers.contains_key("allow"),
        "405 carries Allow (RFC 9110, 15.5.6)",
    );
    promise(
        answer.status != 401 || answer.headers.contains_key("www-authenticate"),
        "401 carries a challenge (RFC 9110, 15.5.2)",
    );
    promise(!answer.headers.contains_key("content-encoding"), "content is never encoded");
    if answer.status == 200 && *method == Method::GET {
        let digest = answer.header("docker-content-digest");
        promise(digest.is_none_or(|digest| is_of(digest, &answer.body)), "the digest is that of the body");
    }
    if answer.status >= 400 && *method != Method::HEAD {
        broken.extend(broken_by_error(answer));
    }
    broken
}

/// The specification, "Error Codes".
fn broken_by_error(answer: &Answer) -> Vec<String> {
    let mut broken = Vec::new();
    if !answer.header("content-type").is_some_and(|value| value.starts_with("application/json")) {
        broken.push("an error body is application/json".to_owned());
    }
    let codes = answer.codes();
    if codes.is_empty() {
        broken.push("an error body is {\"errors\":[{\"code\",\"message\",\"detail\"}]}".to_owned());
    }
    for code in &codes {
        let status = STATUS_OF_CODE.iter().find(|(known, _)| known == code).map(|(_, status)| *status);
        let fits = match answer.status {
            // More than one code may come with these.
            404 | 409 | 413 | 414 | 431 | 507 => status.is_some(),
            answered => status == Some(answered),
        };
        if !fits {
            broken.push(format!("{code} does not go with status {}", answer.status));
        }
    }
    broken
}
