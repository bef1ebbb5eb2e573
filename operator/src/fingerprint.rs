//! Telling by a short text whether something has changed.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The first half of the SHA-256 of `text`, in 32 hexadecimal digits. The same in every release and on every machine:
/// it is kept in annotations, and a new one restarts servers.
#[must_use]
pub fn fingerprint(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(16).fold(String::new(), |mut digits, byte| {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn it_is_the_first_half_of_sha_256() {
        assert_eq!(fingerprint(""), "e3b0c44298fc1c149afbf4c8996fb924");
        assert_eq!(fingerprint("abc"), "ba7816bf8f01cfea414140de5dae2223");
    }
}
