//! What can be wrong with a Registry and cannot be mended by trying again: mistakes of the user's, and objects that are
//! missing or in the way. Each names the object and says what to do.

use registry_server::auth::RuleError;

use crate::api::status::Reason;
use crate::names::REPORTER;

/// The field that names a certificate of the user's.
pub const TLS_SECRET_FIELD: &str = "spec.tls.secretRef";

/// The field that names the htpasswd file.
pub const HTPASSWD_FIELD: &str = "spec.auth.htpasswdSecretRef";

/// Something that keeps a Registry from being as its spec says.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant is its documentation")]
pub enum Problem {
    #[error("the object cannot be read as a Registry: {message}")]
    InvalidSpec { message: String },
    #[error("spec.config: {message}")]
    InvalidConfig { message: String },
    #[error("spec.auth.{0}")]
    InvalidAccessRule(RuleError),
    #[error(
        "{REPORTER} was installed without what spec.auth.kubernetes.subjectAccessReview takes; set \
         rbac.subjectAccessReview=true in the chart's values"
    )]
    AccessReviewDisabled,
    #[error("spec.overrides.{field}: {message}")]
    InvalidOverride { field: String, message: String },
    #[error("{object} is refused by the API server: {message}")]
    Rejected { object: String, message: String },
    #[error(
        "{kind} {name} exists and does not belong to this Registry; choose another name, or remove it if nobody needs it"
    )]
    NameTaken { kind: &'static str, name: String },
    #[error("{kind} {name} of a deleted Registry of the same name is still going away")]
    PredecessorTerminating { kind: &'static str, name: String },
    #[error("Secret {name} does not exist; create it, or correct {field}")]
    SecretNotFound { name: String, field: &'static str },
    #[error("Secret {name} has no key {key}; add it, or correct {field}")]
    SecretKeyMissing { name: String, key: String, field: &'static str },
    #[error("Secret {name}, key {key}, line {line} is not user:bcrypt-hash; write it with `htpasswd -B`")]
    HtpasswdMalformed { name: String, key: String, line: usize },
    #[error("Secret {name} cannot serve TLS: {message}; put a matching tls.crt and tls.key into it")]
    CertificateMalformed { name: String, message: String },
    #[error("the certificate in Secret {name} ended at {end}; renew it")]
    CertificateExpired { name: String, end: String },
    #[error(
        "PersistentVolumeClaim {name} does not exist; create it, or correct spec.storage.filesystem.existingClaim"
    )]
    ClaimNotFound { name: String },
    #[error("PersistentVolumeClaim {name} is used by Registry {by}; two Registries cannot share a volume")]
    ClaimTaken { name: String, by: String },
    #[error(
        "PersistentVolumeClaim {name} has {field} {found}, the spec has {wanted}; set the same, or delete the claim"
    )]
    ClaimMismatch { name: String, field: &'static str, found: String, wanted: String },
    #[error(
        "PersistentVolumeClaim {name} does not have access mode ReadWriteMany; set replicas to 1, or use another claim"
    )]
    ClaimSingleWriter { name: String },
    #[error(
        "PersistentVolumeClaim {name} has {found}, more than {wanted}; volumes cannot shrink, set size to {found}"
    )]
    ShrinkImpossible { name: String, found: String, wanted: String },
    #[error(
        "StorageClass {class} does not let PersistentVolumeClaim {name} grow; set size back to {found}, \
         or allowVolumeExpansion in the class"
    )]
    ExpansionUnsupported { name: String, class: String, found: String },
    #[error("StorageClass {class} does not exist; create it, or create the Registry anew with one that does")]
    StorageClassNotFound { class: String },
    #[error(
        "the cluster has no default StorageClass; mark one, or create the Registry anew with storageClassName"
    )]
    NoDefaultStorageClass,
    #[error("PersistentVolumeClaim {name} is being deleted; when it is gone, a new and empty one is made")]
    ClaimTerminating { name: String },
}

/// The part of a Registry that a problem is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Concern {
    /// The volume.
    Storage,
    /// The certificate.
    Tls,
    /// Anything else.
    Other,
}

impl Problem {
    /// The word for it in conditions, Events and metrics.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::InvalidSpec { .. } => Reason::InvalidSpec,
            Self::InvalidConfig { .. } => Reason::InvalidConfig,
            Self::InvalidAccessRule(_) => Reason::InvalidAccessRule,
            Self::AccessReviewDisabled => Reason::AccessReviewDisabled,
            Self::InvalidOverride { .. } => Reason::InvalidOverride,
            Self::Rejected { .. } => Reason::Rejected,
            Self::NameTaken { .. } => Reason::NameTaken,
            Self::PredecessorTerminating { .. } => Reason::PredecessorTerminating,
            Self::SecretNotFound { .. } => Reason::SecretNotFound,
            Self::SecretKeyMissing { .. } => Reason::SecretKeyMissing,
            Self::HtpasswdMalformed { .. } => Reason::HtpasswdMalformed,
            Self::CertificateMalformed { .. } => Reason::CertificateMalformed,
            Self::CertificateExpired { .. } => Reason::CertificateExpired,
            Self::ClaimNotFound { .. } => Reason::ClaimNotFound,
            Self::ClaimTaken { .. } => Reason::ClaimTaken,
            Self::ClaimMismatch { .. } | Self::ClaimSingleWriter { .. } => Reason::ClaimMismatch,
            Self::ShrinkImpossible { .. } => Reason::ShrinkImpossible,
            Self::ExpansionUnsupported { .. } => Reason::ExpansionUnsupported,
            Self::StorageClassNotFound { .. } | Self::NoDefaultStorageClass => Reason::StorageClassNotFound,
            Self::ClaimTerminating { .. } => Reason::ClaimTerminating,
        }
    }

    /// The part of the Registry that it is about.
    #[must_use]
    pub fn concern(&self) -> Concern {
        match self {
            Self::CertificateMalformed { .. } | Self::CertificateExpired { .. } => Concern::Tls,
            Self::SecretNotFound { field, .. } | Self::SecretKeyMissing { field, .. }
                if *field == TLS_SECRET_FIELD =>
            {
                Concern::Tls
            }
            Self::ClaimNotFound { .. }
            | Self::ClaimTaken { .. }
            | Self::ClaimMismatch { .. }
            | Self::ClaimSingleWriter { .. }
            | Self::ShrinkImpossible { .. }
            | Self::ExpansionUnsupported { .. }
            | Self::StorageClassNotFound { .. }
            | Self::NoDefaultStorageClass
            | Self::ClaimTerminating { .. } => Concern::Storage,
            _ => Concern::Other,
        }
    }

    /// Whether it passes by itself, so that waiting is all there is to do.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::PredecessorTerminating { .. } | Self::ClaimTerminating { .. })
    }
}
