//! What can be wrong with settings, and where it was written.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not YAML.
    #[error("{origin}: not YAML")]
    Syntax {
        /// The file, and where in it reading ended.
        origin: Origin,
        /// What the reader says.
        source: serde_yaml::Error,
    },
    /// A value is missing, is of the wrong kind or is out of range.
    #[error("{origin}: {}{problem}", after_colon(key))]
    Value {
        /// Where it was written.
        origin: Origin,
        /// Its full key, written with dots; empty if the whole is meant.
        key: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// CNCF distribution knows this key, but this server does not, and to start without it would be unsafe.
    #[error("{origin}: {key}: {reason}")]
    Refused {
        /// Where it was written.
        origin: Origin,
        /// Its full key, written with dots.
        key: String,
        /// What this server can do instead.
        reason: &'static str,
    },
}

/// Something that the server does without, but that someone meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where it was written.
    pub origin: Origin,
    /// Its full key, written with dots.
    pub key: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// Why a key has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// CNCF distribution knows it, but this server has no use for it.
    Unused,
    /// Nobody knows it.
    Unknown {
        /// The known key that was probably meant, written with dots.
        nearest: Option<String>,
    },
}

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the file.
    File {
        /// Its path.
        path: PathBuf,
        /// Line and column, both from 1; nothing for what is missing from the whole file.
        place: Option<(usize, usize)>,
    },
    /// In the environment variable of this name.
    Variable(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}: ", self.origin, self.key)?;
        match &self.problem {
            Problem::Unused => formatter.write_str("not used by this server"),
            Problem::Unknown { nearest: Some(nearest) } => {
                write!(formatter, "unknown key, did you mean {nearest}?")
            }
            Problem::Unknown { nearest: None } => formatter.write_str("unknown key"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, place: Some((line, column)) } => {
                write!(formatter, "{}:{line}:{column}", path.display())
            }
            Self::File { path, place: None } => write!(formatter, "{}", path.display()),
            Self::Variable(name) => write!(formatter, "environment variable {name}"),
        }
    }
}

fn after_colon(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}
