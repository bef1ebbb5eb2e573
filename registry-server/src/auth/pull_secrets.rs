//! Passwords of pull secrets: each is good for pulling alone, as whoever runs in one namespace of a cluster.
//!
//! They are long random texts that nobody chooses, so they are known by a plain SHA-256: there is nothing to guess, and
//! thousands of Pods that start at once cost no bcrypt.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::Identity;
use super::followed::Followed;
use crate::types::{Algorithm, Digest, Hasher};

/// What every such password begins with, so that people and scanners for leaked secrets know it.
pub const PREFIX: &str = "windlass_pull_";

/// A file of pull secrets that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("read the pull secrets from {}", path.display())]
pub struct Error {
    /// Path of the file.
    path: PathBuf,
    /// Why not.
    source: io::Error,
}

/// The line of the file by which `password` is that of `namespace`, with its end.
#[must_use]
pub fn line(namespace: &str, password: &str) -> String {
    format!("{namespace}:{}\n", hash(password).hex())
}

fn hash(password: &str) -> Digest {
    Hasher::digest(Algorithm::Sha256, password.as_bytes())
}

/// Whether a password says of itself that it is one of a pull secret.
pub(super) fn is_one(password: &str) -> bool {
    password.starts_with(PREFIX)
}

/// Knows the passwords of a file.
#[derive(Debug)]
pub(super) struct PullSecrets(Followed<Namespaces>);

/// Namespaces by the hashes of their passwords.
#[derive(Default)]
struct Namespaces(HashMap<Digest, String>);

impl PullSecrets {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read. Lines that cannot be used are left out with a warning.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let namespaces = Followed::open(path, Namespaces::read);
        Ok(Self(namespaces.map_err(|source| Error { path: path.to_owned(), source })?))
    }

    /// Who has the password; `None` if nobody. It takes the same work either way.
    pub(super) fn verify(&self, password: &str) -> Option<Identity> {
        self.0.current().0.get(&hash(password)).map(|namespace| Identity::of_puller(namespace))
    }
}

impl Namespaces {
    fn read(path: &Path) -> io::Result<Self> {
        let (namespaces, rejects) = Self::parse(&fs::read_to_string(path)?);
        for line in rejects {
            tracing::warn!(path = %path.display(), line, "a line is not <namespace>:<SHA-256 in hex> and is not used");
        }
        Ok(namespaces)
    }

    /// What a file's text says, and the numbers of the lines that say nothing.
    fn parse(text: &str) -> (Self, Vec<usize>) {
        let mut namespaces = Self::default();
        let mut rejects = Vec::new();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match parse_line(line) {
                Some((namespace, hash)) => drop(namespaces.0.insert(hash, namespace.to_owned())),
                None => rejects.push(number),
            }
        }
        (namespaces, rejects)
    }
}

impl fmt::Debug for Namespaces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Namespaces").finish_non_exhaustive()
    }
}

fn parse_line(line: &str) -> Option<(&str, Digest)> {
    let (namespace, digits) = line.split_once(':').filter(|(namespace, _)| !namespace.is_empty())?;
    let digest = format!("{}:{}", Algorithm::Sha256, digits.to_ascii_lowercase());
    Some((namespace, digest.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(end: &str) -> String {
        format!("{PREFIX}{end}")
    }

    fn open(path: &Path) -> PullSecrets {
        PullSecrets(PullSecrets::open(path).unwrap().0.without_interval())
    }

    #[test]
    fn a_known_password_is_its_namespaces_and_another_is_nobodys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pull-secrets");
        let lines = [("team-a", "1"), ("team-a", "2"), ("team-b", "3")];
        let lines = lines.map(|(namespace, end)| line(namespace, &password(end)));
        fs::write(&path, format!("# made by hand\n\n{}", lines.concat())).unwrap();
        let secrets = open(&path);
        for (end, namespace) in
            [("1", Some("team-a")), ("2", Some("team-a")), ("3", Some("team-b")), ("4", None), ("", None)]
        {
            let identity = secrets.verify(&password(end));
            assert_eq!(identity, namespace.map(Identity::of_puller), "{end}");
        }
        // Whoever sees the file cannot log in with what it says.
        let hash = lines[0].trim().split_once(':').unwrap().1;
        assert_eq!(secrets.verify(hash), None);
    }

    #[test]
    fn the_file_is_followed_and_what_cannot_be_read_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pull-secrets");
        fs::write(&path, line("team-a", &password("old"))).unwrap();
        let secrets = open(&path);
        let knows = |end: &str| secrets.verify(&password(end)).is_some();
        assert!(knows("old") && !knows("new"));
        fs::write(&path, line("team-a", &password("old")) + &line("team-a", &password("new"))).unwrap();
        assert!(knows("old") && knows("new"));
        fs::write(&path, [0xff]).unwrap();
        assert!(knows("old") && knows("new"));
        fs::write(&path, "").unwrap();
        assert!(!knows("old") && !knows("new"));
    }

    #[test]
    fn lines_that_say_nothing_keep_no_others_from_being_read() {
        let good = line("team-a", "x");
        let digits = good.trim().split_once(':').unwrap().1;
        let rows = [
            (good.clone(), true),
            (good.to_uppercase(), true),
            (format!("  {}\r\n", good.trim()), true),
            (format!(":{digits}"), false),
            (digits.to_owned(), false),
            (format!("team-a:{}", &digits[1..]), false),
            (format!("team-a:{digits}0"), false),
            (format!("team-a:+{}", &digits[1..]), false),
            (format!("team-a:\u{e4}{}", &digits[2..]), false),
            ("team-a:".to_owned(), false),
        ];
        for (text, is_good) in rows {
            let (namespaces, rejects) = Namespaces::parse(&format!("{text}\nother:{digits}"));
            assert_eq!(rejects.is_empty(), is_good, "{text}");
            assert_eq!(namespaces.0.len(), 1, "{text}");
        }
    }

    #[test]
    fn neither_names_nor_hashes_are_shown_by_debug() {
        let (namespaces, _) = Namespaces::parse(&line("team-a", "x"));
        assert_eq!(format!("{namespaces:?}"), "Namespaces { .. }");
    }
}
