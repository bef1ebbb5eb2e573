//! The vocabulary of the distribution specification: parsed once at the edge, valid ever after.
//!
//! Nothing here does I/O, knows a path or knows HTTP.

pub mod byte_range;
pub mod descriptor;
pub mod digest;
pub mod hasher;
pub mod manifest;
pub mod media_type;
pub mod name;
pub mod reference;
pub mod referrer;
pub mod repository_glob;
pub mod run_id;
pub mod upload_id;

pub use byte_range::{ByteRange, ContentRange};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest};
pub use hasher::Hasher;
pub use manifest::Manifest;
pub use media_type::ManifestMediaType;
pub use name::RepositoryName;
pub use reference::{Reference, Tag};
pub use referrer::Referrer;
pub use repository_glob::RepositoryGlob;
pub use run_id::RunId;
pub use upload_id::UploadId;
