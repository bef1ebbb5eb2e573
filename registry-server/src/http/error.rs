//! The one map from what went wrong to status, code and text for the client.
//!
//! Spec: distribution-spec "Error Codes". `RANGE_INVALID`, `PAGINATION_NUMBER_INVALID`, `TAG_INVALID` and
//! `UNAVAILABLE` are CNCF distribution's.

use http::header::{ALLOW, CONTENT_RANGE, CONTENT_TYPE, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::body::Body;
use super::headers::{header_value, upload_range};
use super::route::RouteError;
use crate::registry;
use crate::storage;
use crate::types::digest::ParseDigestError;
use crate::types::reference::ParseReferenceError;

/// When a client may come again that was too much: until then about as many passwords have been verified as may wait. Or
/// one that the cluster did not decide over.
const RETRY_AFTER_SECONDS: u16 = 5;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The path names nothing.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The path does not take the method.
    #[error("the method is not allowed here")]
    Method(&'static [Method]),
    /// The server is set not to do this.
    #[error("{reason}")]
    Disabled {
        /// The setting that forbids it.
        reason: &'static str,
        /// What is left to do here.
        allowed: Vec<Method>,
    },
    /// No credentials, or wrong ones.
    #[error("authentication is required")]
    Unauthorized {
        /// The value of `WWW-Authenticate`.
        challenge: Option<String>,
    },
    /// The credentials do not give the right.
    #[error("the requested access is denied")]
    Denied,
    /// More passwords are to be verified than can be in a few seconds.
    #[error("too many passwords are being verified, try again in {RETRY_AFTER_SECONDS} seconds")]
    TooManyLogins,
    /// The cluster that decides over the request does not answer.
    #[error("the cluster does not say whether this is granted, try again in {RETRY_AFTER_SECONDS} seconds")]
    Undecided,
    /// A parameter that should be a digest is not one.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    /// An upload cannot end without a digest.
    #[error("the parameter digest is missing")]
    DigestMissing,
    /// A parameter that should be a repository's name is not one.
    #[error(transparent)]
    Name(#[from] crate::types::name::ParseNameError),
    /// `n` is not a number.
    #[error("the parameter n must be a whole number, 0 or more")]
    PageSize,
    /// A chunk's `Content-Range` cannot be read.
    #[error(transparent)]
    ContentRange(#[from] crate::types::byte_range::ParseContentRangeError),
    /// The range that a reader asks for has no byte.
    #[error("the range lies outside the blob of {size} bytes")]
    Unsatisfiable {
        /// The blob's size in bytes.
        size: u64,
    },
    /// A manifest is larger than the server takes.
    #[error("a manifest may have at most {limit} bytes")]
    ManifestTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A manifest's body broke off.
    #[error("the request's body broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The thread that was to make a list broke off.
    #[error("the list could not be made")]
    Listing(#[source] tokio::task::JoinError),
    /// What the registry's rules refuse.
    #[error(transparent)]
    Registry(#[from] registry::Error),
}

/// One entry of an error body.
#[derive(Serialize)]
struct Entry {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    detail: Value,
}

impl Error {
    /// Status and code.
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Route(error) => route_kind(*error),
            Self::Method(_) | Self::Disabled { .. } => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            Self::Unauthorized { .. } => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::Denied => (StatusCode::FORBIDDEN, "DENIED"),
            Self::TooManyLogins => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
            Self::Undecided => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            Self::Digest(_) | Self::DigestMissing => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            Self::Name(_) => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            Self::PageSize => (StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID"),
            Self::ContentRange(_) | Self::Unsatisfiable { .. } => {
                (StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID")
            }
            Self::ManifestTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            Self::Body(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            Self::Listing(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
            Self::Registry(error) => registry_kind(error),
        }
    }

    /// The headers that a client needs to go on from this error.
    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        match self {
            Self::Method(methods) => vec![(ALLOW, method_list(methods))],
            Self::Disabled { allowed, .. } => vec![(ALLOW, method_list(allowed))],
            Self::Unauthorized { challenge: Some(challenge) } => {
                vec![(WWW_AUTHENTICATE, header_value(challenge))]
            }
            Self::TooManyLogins | Self::Undecided => vec![(RETRY_AFTER, RETRY_AFTER_SECONDS.into())],
            Self::Unsatisfiable { size } => vec![(CONTENT_RANGE, header_value(&format!("bytes */{size}")))],
            Self::Registry(registry::Error::ChunkOutOfOrder { offset }) => {
                vec![(RANGE, upload_range(*offset))]
            }
            _ => Vec::new(),
        }
    }

    fn entries(&self, code: &'static str) -> Vec<Entry> {
        use registry::Error as Registry;
        let entry = |detail: Value| vec![Entry { code, message: self.client_text(), detail }];
        match self {
            Self::Registry(Registry::ManifestBlobUnknown { missing }) => {
                let one =
                    |digest| Entry { code, message: self.client_text(), detail: json!({ "digest": digest }) };
                missing.iter().map(one).collect()
            }
            Self::Registry(Registry::BlobUnknown { digest }) => entry(json!({ "digest": digest })),
            Self::Registry(Registry::ManifestUnknown { reference }) => {
                entry(json!({ "reference": reference.to_string() }))
            }
            Self::Registry(Registry::NameUnknown { name }) => entry(json!({ "name": name.as_str() })),
            _ => entry(Value::Null),
        }
    }

    /// What the client is told: the whole story of its own mistake, nothing of the server's insides.
    fn client_text(&self) -> String {
        if self.kind().0.is_server_error() {
            return match self {
                Self::Undecided => self.to_string(),
                Self::Registry(registry::Error::Storage(storage::Error::OutOfSpace { .. })) => {
                    "the registry has no space left".to_owned()
                }
                Self::Registry(registry::Error::Storage(storage::Error::ReadOnly { .. })) => {
                    "the registry's storage takes no writes".to_owned()
                }
                _ => "the registry failed to answer, see its log".to_owned(),
            };
        }
        chain(self)
    }

    /// The answer for the client. What the server itself got wrong is logged here, and only here.
    pub(super) fn into_response(self) -> Response<Body> {
        let (status, code) = self.kind();
        if status.is_server_error() || matches!(self, Self::Registry(registry::Error::ManifestDamaged { .. }))
        {
            tracing::error!(error = chain(&self), "a request failed");
        } else {
            tracing::debug!(code, error = chain(&self), "a request was refused");
        }
        let body = json!({ "errors": self.entries(code) }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.headers());
        response
    }
}

fn method_list(methods: &[Method]) -> HeaderValue {
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    header_value(&names.join(", "))
}

fn route_kind(error: RouteError) -> (StatusCode, &'static str) {
    match error {
        RouteError::NotFound => (StatusCode::NOT_FOUND, "UNSUPPORTED"),
        RouteError::NoSuchTag => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
        RouteError::Name(_) => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
        RouteError::Digest(_) | RouteError::Reference(ParseReferenceError::Digest(_)) => {
            (StatusCode::BAD_REQUEST, "DIGEST_INVALID")
        }
        RouteError::Reference(ParseReferenceError::Tag) => (StatusCode::BAD_REQUEST, "TAG_INVALID"),
        // Whatever the id looks like, no such session exists.
        RouteError::UploadId(_) => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
    }
}

fn registry_kind(error: &registry::Error) -> (StatusCode, &'static str) {
    use registry::Error as E;
    match error {
        E::NameUnknown { .. } => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
        E::BlobUnknown { .. } => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        // A client that looks first would not push again what it is not told to be absent.
        E::ManifestUnknown { .. } | E::ManifestDamaged { .. } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
        E::UploadUnknown { .. } => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
        E::UploadBusy { .. } => (StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID"),
        E::ChunkOutOfOrder { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID"),
        E::ChunkSize { .. } => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
        E::BodyAborted(_) => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
        E::DigestMismatch { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
        E::ManifestInvalid(_) | E::BlobSize { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
        E::ManifestBlobUnknown { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
        E::Storage(storage::Error::OutOfSpace { .. }) => (StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE"),
        // Somebody was stopped in the middle of what takes microseconds, or a volume is out of order: it is for the client
        // to try again.
        E::Storage(storage::Error::Busy { .. } | storage::Error::ReadOnly { .. }) => {
            (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE")
        }
        E::Storage(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
