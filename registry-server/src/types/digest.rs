//! Content digests, `<algorithm>:<hex>`.
//!
//! Spec: OCI image-spec, descriptor.md "Digests".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A hash algorithm that this server can verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, the canonical algorithm: blobs are stored under it.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name as it stands before the colon of a digest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits a digest of this algorithm has.
    #[must_use]
    pub fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl FromStr for Algorithm {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|algorithm| algorithm.name() == text);
        known.ok_or(ParseDigestError::UnsupportedAlgorithm)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A digest that is always valid: a known algorithm and lower-case hexadecimal of its length.
///
/// The only ways to one are parsing, [`Digest::from_sha256`] and [`crate::types::Hasher::finish`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

/// Why a text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// The text does not have the form `<algorithm>:<encoded>`.
    #[error("a digest has the form sha256:<64 hexadecimal digits>")]
    Malformed,
    /// The algorithm is not one that this server can verify.
    #[error("the digest algorithm is not supported, use sha256 or sha512")]
    UnsupportedAlgorithm,
}

impl Digest {
    /// Makes a digest of raw hash bytes.
    pub(in crate::types) fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
            hex.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        Self { algorithm, hex }
    }

    /// The digest of this SHA-256 hash.
    #[must_use]
    pub fn from_sha256(hash: &[u8; 32]) -> Self {
        Self::from_bytes(Algorithm::Sha256, hash)
    }

    /// The hash, if it is SHA-256's.
    #[must_use]
    pub fn sha256(&self) -> Option<[u8; 32]> {
        let digit = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte - b'a' + 10 };
        let mut hash = [0; 32];
        if self.algorithm != Algorithm::Sha256 {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(self.hex.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        Some(hash)
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The lower-case hexadecimal part.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, hex) = text.split_once(':').ok_or(ParseDigestError::Malformed)?;
        let algorithm: Algorithm = match name.parse() {
            Ok(algorithm) => algorithm,
            Err(unsupported) if is_algorithm_name(name) && is_encoded(hex) => return Err(unsupported),
            Err(_) => return Err(ParseDigestError::Malformed),
        };
        let is_hex = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hex.len() != algorithm.hex_length() || !is_hex {
            return Err(ParseDigestError::Malformed);
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

/// Whether `name` has the specification's form of an algorithm: `[a-z0-9]+([+._-][a-z0-9]+)*`.
fn is_algorithm_name(name: &str) -> bool {
    name.split(['+', '.', '_', '-']).all(|part| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

/// Whether `text` has the specification's form of an encoded hash: `[a-zA-Z0-9=_-]+`.
fn is_encoded(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'_' | b'-'))
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.algorithm, self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sha256_digest_is_a_hash_and_back() {
        let hash: [u8; 32] = std::array::from_fn(|place| u8::try_from(place * 8 + 3).unwrap());
        let digest = Digest::from_sha256(&hash);
        assert_eq!(digest.sha256(), Some(hash));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(format!("sha512:{}", "0f".repeat(64)).parse::<Digest>().unwrap().sha256(), None);
    }

    #[test]
    fn only_well_formed_digests_of_known_algorithms_parse() {
        let sha256 = format!("sha256:{}", "a1".repeat(32));
        let sha512 = format!("sha512:{}", "0f".repeat(64));
        let rows = [
            (sha256.clone(), None),
            (sha512, None),
            ("sha256:baddigeststring".into(), Some(ParseDigestError::Malformed)),
            (sha256.to_uppercase(), Some(ParseDigestError::Malformed)),
            (sha256.replace("a1", "A1"), Some(ParseDigestError::Malformed)),
            (format!("{sha256}00"), Some(ParseDigestError::Malformed)),
            ("sha256:".into(), Some(ParseDigestError::Malformed)),
            (":abc".into(), Some(ParseDigestError::Malformed)),
            ("latest".into(), Some(ParseDigestError::Malformed)),
            ("sha256:../../etc/passwd".into(), Some(ParseDigestError::Malformed)),
            ("md5:abc123".into(), Some(ParseDigestError::UnsupportedAlgorithm)),
            ("sha384+b64u:abc_-=".into(), Some(ParseDigestError::UnsupportedAlgorithm)),
            ("md5:../x".into(), Some(ParseDigestError::Malformed)),
        ];
        for (text, error) in rows {
            let parsed = text.parse::<Digest>();
            assert_eq!(parsed.as_ref().err().copied(), error, "{text}");
            if let Ok(digest) = parsed {
                assert_eq!(digest.to_string(), text);
            }
        }
    }

    #[test]
    fn a_digest_travels_through_json_as_its_text() {
        let text = format!("\"sha256:{}\"", "00".repeat(32));
        let digest: Digest = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&digest).unwrap(), text);
        assert!(serde_json::from_str::<Digest>("\"sha256:xyz\"").is_err());
    }
}
