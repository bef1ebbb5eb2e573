//! A set of SHA-256 digests that may be larger than memory: 32 bytes each up to a limit, sorted runs on disk beyond.

use std::sync::Arc;

use crate::storage::{Content, Durability, Error, Key, Result, Storage};
use crate::types::RunId;

/// A SHA-256 hash.
pub(super) type Hash = [u8; 32];

/// How many hashes are kept in memory: 128 MiB.
const DEFAULT_LIMIT: usize = 4 << 20;

/// How many hashes are read from a sorted run at a time.
const READ_AHEAD: usize = 2048;

/// The set while it grows.
#[derive(Debug)]
pub(super) struct DigestSet {
    storage: Arc<dyn Storage>,
    run: RunId,
    limit: usize,
    recent: Vec<Hash>,
    spilled: Vec<Content>,
}

/// The set when it is complete.
#[derive(Debug)]
pub(super) struct SortedDigests {
    recent: Vec<Hash>,
    spilled: Vec<Content>,
}

/// A way through the complete set from its least hash to its greatest.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    recent: std::iter::Peekable<std::slice::Iter<'a, Hash>>,
    spilled: Vec<Reader<'a>>,
}

/// A sorted run, and where its reading stands.
#[derive(Debug)]
struct Reader<'a> {
    content: &'a Content,
    /// Byte from which the next piece is read.
    offset: u64,
    piece: Vec<u8>,
    /// Byte of the piece at which the next hash begins.
    position: usize,
}

impl DigestSet {
    /// An empty set of a run, which puts what does not fit into memory into the run's scratch space.
    pub(super) fn new(storage: Arc<dyn Storage>, run: RunId) -> Self {
        Self::with_limit(storage, run, DEFAULT_LIMIT)
    }

    fn with_limit(storage: Arc<dyn Storage>, run: RunId, limit: usize) -> Self {
        Self { storage, run, limit, recent: Vec::new(), spilled: Vec::new() }
    }

    pub(super) async fn extend(&mut self, hashes: Vec<Hash>) -> Result<()> {
        for hash in hashes {
            if self.recent.len() >= self.limit {
                self.make_room().await?;
            }
            self.recent.push(hash);
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> SortedDigests {
        self.sort();
        SortedDigests { recent: self.recent, spilled: self.spilled }
    }

    /// Forgets what is there twice, and if that is not enough, moves all to disk.
    async fn make_room(&mut self) -> Result<()> {
        self.sort();
        if self.recent.len() <= self.limit / 2 {
            return Ok(());
        }
        let piece = u32::try_from(self.spilled.len()).unwrap_or(u32::MAX);
        let key = Key::Scratch(&self.run, piece);
        self.storage.put(key, &self.recent.concat(), Durability::Process).await?;
        self.spilled.push(self.storage.open(key).await?);
        self.recent.clear();
        Ok(())
    }

    fn sort(&mut self) {
        self.recent.sort_unstable();
        self.recent.dedup();
    }
}

impl SortedDigests {
    pub(super) fn cursor(&self) -> Cursor<'_> {
        let reader = |content| Reader { content, offset: 0, piece: Vec::new(), position: 0 };
        Cursor { recent: self.recent.iter().peekable(), spilled: self.spilled.iter().map(reader).collect() }
    }
}

impl Cursor<'_> {
    /// Whether the set has a hash, which must not be less than the one asked for before.
    pub(super) fn contains(&mut self, hash: &Hash) -> Result<bool> {
        while self.recent.next_if(|least| *least < hash).is_some() {}
        let mut found = self.recent.peek() == Some(&hash);
        for reader in &mut self.spilled {
            while reader.peek()?.is_some_and(|least| least < *hash) {
                reader.position += hash.len();
            }
            found |= reader.peek()? == Some(*hash);
        }
        Ok(found)
    }
}

impl Reader<'_> {
    fn peek(&mut self) -> Result<Option<Hash>> {
        if self.position == self.piece.len() {
            self.read_on().map_err(|source| Error::Io {
                operation: "read",
                path: "a sorted run of digests".into(),
                source,
            })?;
        }
        Ok(self.piece[self.position..].first_chunk().copied())
    }

    fn read_on(&mut self) -> std::io::Result<()> {
        self.piece.resize(READ_AHEAD * size_of::<Hash>(), 0);
        self.position = 0;
        let mut filled = 0;
        while filled < self.piece.len() {
            match self.content.source.read_at(&mut self.piece[filled..], self.offset)? {
                0 => break,
                read => {
                    filled += read;
                    self.offset += read as u64;
                }
            }
        }
        self.piece.truncate(filled);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::storage::Memory;

    fn hash(number: u32) -> Hash {
        Sha256::digest(number.to_be_bytes()).into()
    }

    #[tokio::test]
    async fn it_holds_what_was_put_in_however_much_of_it_lies_on_disk() {
        for (limit, runs) in [(3_000, 0), (500, 2), (100, 10)] {
            let mut set = DigestSet::with_limit(Arc::new(Memory::default()), RunId::now(), limit);
            for number in 0..2_000 {
                set.extend(vec![hash(number), hash(number / 2)]).await.unwrap();
            }
            let set = set.finish();
            assert!(set.spilled.len() >= runs && set.recent.len() <= limit, "limit {limit}");
            let mut questions: Vec<(Hash, bool)> = (0..4_000).map(|n| (hash(n), n < 2_000)).collect();
            questions.sort_unstable();
            let mut cursor = set.cursor();
            for (hash, expected) in questions {
                assert_eq!(cursor.contains(&hash).unwrap(), expected, "limit {limit}");
                assert_eq!(cursor.contains(&hash).unwrap(), expected, "asked again");
            }
        }
    }

    #[tokio::test]
    async fn an_empty_set_holds_nothing() {
        let set = DigestSet::new(Arc::new(Memory::default()), RunId::now()).finish();
        assert!(!set.cursor().contains(&hash(1)).unwrap());
    }
}
