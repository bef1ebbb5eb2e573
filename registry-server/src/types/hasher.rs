//! Hashing of content as it streams by, with a state that another process can take up.

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

use super::digest::{Algorithm, Digest};

/// A running hash.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// A running SHA-256.
    Sha256(Sha256),
    /// A running SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// Starts a hash over nothing.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of everything taken in.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hash) => Digest::from_bytes(Algorithm::Sha256, &hash.finalize()),
            Self::Sha512(hash) => Digest::from_bytes(Algorithm::Sha512, &hash.finalize()),
        }
    }

    /// The digest of `bytes`.
    #[must_use]
    pub fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = Self::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// Length of a saved SHA-256 state: 4 bytes of magic, 8 words, a block of 64 bytes, the length hashed.
const SAVED_LENGTH: usize = 4 + 32 + 64 + 8;
/// First bytes of a saved SHA-256 state.
const SAVED_MAGIC: [u8; 4] = *b"sha\x03";

/// Writes a running SHA-256 in the form that Go's `crypto/sha256` marshals.
///
/// It is the form of CNCF distribution's `hashstates` files, so that either server can go on with an
/// upload which the other began.
#[must_use]
pub fn save_sha256(hash: &Sha256) -> Vec<u8> {
    // sha2 serialises eight little-endian words, the count of whole blocks, then the fill of the open
    // block and its bytes; Go wants the words big-endian, the whole block and the length in bytes.
    let state = hash.serialize();
    let (words, rest) = state.split_at(32);
    let (blocks, buffer) = rest.split_at(8);
    let fill = buffer.first().copied().unwrap_or(0);

    let mut saved = Vec::with_capacity(SAVED_LENGTH);
    saved.extend_from_slice(&SAVED_MAGIC);
    for word in words.chunks_exact(4) {
        saved.extend(word.iter().rev());
    }
    saved.extend_from_slice(&buffer[1..]);
    saved.resize(SAVED_LENGTH - 8, 0);
    let mut block_count = [0; 8];
    block_count.copy_from_slice(blocks);
    let length = u64::from_le_bytes(block_count) * 64 + u64::from(fill);
    saved.extend_from_slice(&length.to_be_bytes());
    saved
}

/// Reads what [`save_sha256`] or Go wrote after `offset` bytes of content.
///
/// `None` when the bytes are something else, for instance the rest of a write that a crash cut short.
#[must_use]
pub fn restore_sha256(saved: &[u8], offset: u64) -> Option<Sha256> {
    let body = saved.strip_prefix(&SAVED_MAGIC)?;
    if saved.len() != SAVED_LENGTH {
        return None;
    }
    let (words, rest) = body.split_at(32);
    let (block, length) = rest.split_at(64);
    if length != offset.to_be_bytes() {
        return None;
    }
    let fill = u8::try_from(offset % 64).ok()?;

    let mut state = SerializedState::<Sha256>::default();
    let (state_words, state_rest) = state.split_at_mut(32);
    for (target, word) in state_words.chunks_exact_mut(4).zip(words.chunks_exact(4)) {
        target.copy_from_slice(word);
        target.reverse();
    }
    let (blocks, buffer) = state_rest.split_at_mut(8);
    blocks.copy_from_slice(&(offset / 64).to_le_bytes());
    buffer[0] = fill;
    buffer[1..=usize::from(fill)].copy_from_slice(&block[..usize::from(fill)]);
    Sha256::deserialize(&state).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_agree_with_published_vectors() {
        // FIPS 180-4 example "abc" and the empty message.
        let rows = [
            (Algorithm::Sha256, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (Algorithm::Sha256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                Algorithm::Sha512,
                "abc",
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
        ];
        for (algorithm, message, hex) in rows {
            assert_eq!(
                Hasher::digest(algorithm, message.as_bytes()).hex(),
                hex,
                "{algorithm} of {message:?}"
            );
        }
    }

    #[test]
    fn a_saved_state_goes_on_where_it_stopped_at_every_offset() {
        let content: Vec<u8> = (0..=255).cycle().take(300).collect();
        let whole = Hasher::digest(Algorithm::Sha256, &content);
        for offset in 0..content.len() {
            let mut first = Sha256::new();
            first.update(&content[..offset]);
            let saved = save_sha256(&first);
            let mut second = restore_sha256(&saved, offset as u64).unwrap();
            second.update(&content[offset..]);
            assert_eq!(Hasher::Sha256(second).finish(), whole, "split at {offset}");
        }
    }

    #[test]
    fn the_saved_form_is_the_one_that_go_marshals() {
        // sha256.New(), Write("abc"), MarshalBinary() of Go 1.26, written down as hexadecimal.
        let expected = format!(
            "73686103{}616263{}{:016x}",
            "6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19",
            "00".repeat(61),
            3
        );
        let saved = save_sha256(&Sha256::new().chain_update("abc"));
        let bytes =
            (0..expected.len()).step_by(2).map(|at| u8::from_str_radix(&expected[at..at + 2], 16).unwrap());
        assert_eq!(saved, bytes.collect::<Vec<_>>());
    }

    #[test]
    fn a_state_of_another_offset_or_form_is_refused() {
        let saved = save_sha256(&Sha256::new().chain_update("abc"));
        assert!(restore_sha256(&saved, 3).is_some());
        assert!(restore_sha256(&saved, 4).is_none());
        assert!(restore_sha256(&saved[..50], 3).is_none());
        assert!(restore_sha256(&[0; SAVED_LENGTH], 0).is_none());
        assert!(restore_sha256(b"", 0).is_none());
    }
}
