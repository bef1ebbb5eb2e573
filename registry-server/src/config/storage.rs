//! Section `storage`: where content is kept, and what may be done to it.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;

/// Exactly one driver, and the rules for the content under it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Keys", into = "Keys")]
#[schemars(with = "Keys")]
pub struct Storage {
    /// Where content is kept.
    pub driver: Driver,
    /// Whether content may be deleted.
    pub delete: Delete,
    /// Whether content may be changed at all.
    pub maintenance: Maintenance,
}

/// A place for content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// A directory in distribution's layout.
    Filesystem(Filesystem),
    /// The process's memory.
    Inmemory(Inmemory),
}

/// A directory tree in the layout of CNCF distribution, which can serve it too.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Filesystem {
    /// Directory that holds the tree. Another directory is another registry: nothing is moved.
    pub rootdirectory: PathBuf,
}

/// Content that is lost when the process ends: for trials and tests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Inmemory {}

/// Deletion of manifests, tags and blobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Delete {
    /// Whether clients may delete. Otherwise each DELETE is answered 405.
    pub enabled: bool,
}

/// What keeps the content in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Maintenance {
    /// A registry that only serves reads.
    pub readonly: Readonly,
    /// Removal of uploads that nobody goes on with.
    pub uploadpurging: UploadPurging,
}

/// Refusal of all changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Readonly {
    /// Whether pushes and deletes are refused with 405.
    pub enabled: bool,
}

/// Removal of uploads that nobody goes on with. A registry that is read-only does not remove any.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct UploadPurging {
    /// Whether such uploads are removed.
    pub enabled: bool,
    /// Time since the last byte of an upload came in, after which it is removed.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub age: Duration,
    /// Time between two looks. The first comes within an hour of the start, so that many servers do not look at once.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub interval: Duration,
    /// Whether it is only logged what would be removed.
    pub dryrun: bool,
}

impl Default for UploadPurging {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self { enabled: true, age: 168 * hour, interval: 24 * hour, dryrun: false }
    }
}

impl Default for Driver {
    fn default() -> Self {
        Self::Filesystem(Filesystem::default())
    }
}

impl Default for Filesystem {
    fn default() -> Self {
        Self { rootdirectory: "/var/lib/registry".into() }
    }
}

/// The section as it is written: a driver is a key beside the others.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Storage")]
struct Keys {
    /// Content in a directory, in the layout of CNCF distribution.
    filesystem: Option<Filesystem>,
    /// Content in memory, lost when the process ends: for trials and tests.
    inmemory: Option<Inmemory>,
    /// Whether content may be deleted.
    #[serde(default)]
    delete: Delete,
    /// Whether content may be changed at all.
    #[serde(default)]
    maintenance: Maintenance,
}

impl TryFrom<Keys> for Storage {
    type Error = &'static str;

    fn try_from(keys: Keys) -> Result<Self, Self::Error> {
        let driver = match (keys.filesystem, keys.inmemory) {
            (Some(filesystem), None) => Driver::Filesystem(filesystem),
            (None, Some(inmemory)) => Driver::Inmemory(inmemory),
            (None, None) => return Err("no driver is set, expected one of filesystem, inmemory"),
            (Some(_), Some(_)) => {
                return Err("more than one driver is set, expected one of filesystem, inmemory");
            }
        };
        Ok(Self { driver, delete: keys.delete, maintenance: keys.maintenance })
    }
}

impl From<Storage> for Keys {
    fn from(storage: Storage) -> Self {
        let (filesystem, inmemory) = match storage.driver {
            Driver::Filesystem(filesystem) => (Some(filesystem), None),
            Driver::Inmemory(inmemory) => (None, Some(inmemory)),
        };
        Self { filesystem, inmemory, delete: storage.delete, maintenance: storage.maintenance }
    }
}
