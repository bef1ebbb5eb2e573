//! What keeps a policy, or one of its registries, from being collected until somebody changes something. Each names the
//! field and says what to do.

use crate::api::garbage_collection_status::GarbageCollectionReason as Reason;

/// Something that keeps registries from being collected.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant is its documentation")]
pub enum Problem {
    #[error("the object cannot be read as a GarbageCollectionPolicy: {message}")]
    InvalidSpec { message: String },
    #[error("spec.schedule: {pattern:?} cannot be read ({message}); use five fields such as \"0 3 * * *\"")]
    InvalidSchedule { pattern: String, message: String },
    #[error("spec.schedule: {pattern:?} never comes; choose a day that exists")]
    NeverFires { pattern: String },
    #[error("spec.timeZone: there is no time zone {zone:?}; use a name such as Europe/Berlin or UTC")]
    InvalidTimeZone { zone: String },
    #[error("{field}: {value:?} is no duration; write it as 24h, 90m or 30s")]
    InvalidDuration { field: String, value: String },
    #[error("{field}: {message}")]
    InvalidPattern { field: String, message: String },
    #[error("spec.registrySelector: {message}")]
    InvalidSelector { message: String },
    #[error("Registry {name} does not exist; create it, or correct spec.registryRef.name")]
    RegistryNotFound { name: String },
    #[error("spec.registrySelector finds no Registry in this namespace; label one, or correct the selector")]
    NothingSelected,
    #[error("spec.registrySelector finds {count} Registries, more than {most}; divide them among policies")]
    TooManyRegistries { count: usize, most: usize },
    #[error("Registry {registry} belongs to GarbageCollectionPolicy {by}; let one policy name it only")]
    RegistryTaken { registry: String, by: String },
    #[error(
        "PersistentVolumeClaim {claim} of Registry {registry} has access mode ReadWriteOncePod, so that no run can mount \
         it beside the server; use ReadWriteOnce"
    )]
    VolumeExclusive { registry: String, claim: String },
    #[error("Registry {registry} is paused; runs begin when spec.paused is false again")]
    RegistryPaused { registry: String },
    #[error("Registry {registry} has no server yet; runs begin when it has")]
    RegistryPending { registry: String },
    #[error("{object} is refused by the API server: {message}")]
    Rejected { object: String, message: String },
}

impl Problem {
    /// The word for it in conditions, Events and metrics.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::InvalidSpec { .. } => Reason::InvalidSpec,
            Self::InvalidSchedule { .. } | Self::NeverFires { .. } => Reason::InvalidSchedule,
            Self::InvalidTimeZone { .. } => Reason::InvalidTimeZone,
            Self::InvalidDuration { .. } => Reason::InvalidDuration,
            Self::InvalidPattern { .. } => Reason::InvalidPattern,
            Self::InvalidSelector { .. } => Reason::InvalidSelector,
            Self::RegistryNotFound { .. } | Self::NothingSelected => Reason::RegistryNotFound,
            Self::TooManyRegistries { .. } => Reason::TooManyRegistries,
            Self::RegistryTaken { .. } => Reason::RegistryTaken,
            Self::VolumeExclusive { .. } => Reason::VolumeExclusive,
            Self::RegistryPaused { .. } => Reason::RegistryPaused,
            Self::RegistryPending { .. } => Reason::RegistryPending,
            Self::Rejected { .. } => Reason::Rejected,
        }
    }

    /// Whether it passes by itself, or is as somebody wants it to be, so that nobody has to mend anything.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::RegistryPaused { .. } | Self::RegistryPending { .. })
    }
}
