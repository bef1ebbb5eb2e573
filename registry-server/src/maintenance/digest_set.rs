//! The live blobs and their sizes, of which there may be more than fit into memory: 32 bytes each up to a limit, sorted
//! runs on disk beyond.
//!
//! Six of the bytes are the blob's size, and 26 the beginning of its SHA-256: two blobs that share these will not be met,
//! and if they were, both would be kept.

use std::sync::Arc;

use crate::storage::{Content, Durability, Error, Key, Result, Storage};
use crate::types::RunId;

/// A SHA-256 hash.
pub(super) type Hash = [u8; 32];

/// A live blob: the beginning of its hash, then its size as a big-endian number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LiveBlob([u8; 32]);

/// How many bytes of the hash tell a blob from others.
const PREFIX: usize = 26;

/// How many blobs are kept in memory: 128 MiB.
const DEFAULT_LIMIT: usize = 4 << 20;

/// How many blobs are read from a sorted run at a time.
const READ_AHEAD: usize = 2048;

/// The set while it grows.
#[derive(Debug)]
pub(super) struct DigestSet {
    storage: Arc<dyn Storage>,
    run: RunId,
    limit: usize,
    recent: Vec<LiveBlob>,
    spilled: Vec<Content>,
}

/// The set when it is complete.
#[derive(Debug)]
pub(super) struct SortedDigests {
    recent: Vec<LiveBlob>,
    spilled: Vec<Content>,
}

/// A way through the complete set from its least blob to its greatest.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    recent: std::iter::Peekable<std::slice::Iter<'a, LiveBlob>>,
    spilled: Vec<Reader<'a>>,
}

/// A sorted run, and where its reading stands.
#[derive(Debug)]
struct Reader<'a> {
    content: &'a Content,
    /// Byte from which the next piece is read.
    offset: u64,
    piece: Vec<u8>,
    /// Byte of the piece at which the next blob begins.
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

    pub(super) async fn extend(&mut self, blobs: Vec<LiveBlob>) -> Result<()> {
        for blob in blobs {
            if self.recent.len() >= self.limit {
                self.make_room().await?;
            }
            self.recent.push(blob);
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
        self.storage
            .put(key, &self.recent.iter().flat_map(|blob| blob.0).collect::<Vec<u8>>(), Durability::Process)
            .await?;
        self.spilled.push(self.storage.open(key).await?);
        self.recent.clear();
        Ok(())
    }

    fn sort(&mut self) {
        self.recent.sort_unstable();
        self.recent.dedup_by(|one, other| one.prefix() == other.prefix());
    }
}

impl SortedDigests {
    pub(super) fn cursor(&self) -> Cursor<'_> {
        let reader = |content| Reader { content, offset: 0, piece: Vec::new(), position: 0 };
        Cursor { recent: self.recent.iter().peekable(), spilled: self.spilled.iter().map(reader).collect() }
    }
}

impl Cursor<'_> {
    /// The size of a blob if the set has it, 0 if that is not known. Its hash must not be less than the one asked for
    /// before.
    pub(super) fn find(&mut self, hash: &Hash) -> Result<Option<u64>> {
        let prefix = &hash[..PREFIX];
        while self.recent.next_if(|least| least.prefix() < prefix).is_some() {}
        let mut found = self.recent.peek().filter(|least| least.prefix() == prefix).map(|blob| blob.size());
        for reader in &mut self.spilled {
            while reader.peek()?.is_some_and(|least| least.prefix() < prefix) {
                reader.position += size_of::<LiveBlob>();
            }
            let here = reader.peek()?.filter(|least| least.prefix() == prefix);
            found = found.max(here.map(|blob| blob.size()));
        }
        Ok(found)
    }
}

impl LiveBlob {
    /// A live blob; its size is 0 if that is not known.
    pub(super) fn new(hash: &Hash, size: u64) -> Self {
        let mut bytes = *hash;
        bytes[PREFIX..].copy_from_slice(&size.to_be_bytes()[2..]);
        Self(bytes)
    }

    fn prefix(&self) -> &[u8] {
        &self.0[..PREFIX]
    }

    fn size(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&self.0[PREFIX..]);
        u64::from_be_bytes(bytes)
    }
}

impl Reader<'_> {
    fn peek(&mut self) -> Result<Option<LiveBlob>> {
        if self.position == self.piece.len() {
            self.read_on().map_err(|source| Error::Io {
                operation: "read",
                path: "a sorted run of digests".into(),
                source,
            })?;
        }
        Ok(self.piece[self.position..].first_chunk().copied().map(LiveBlob))
    }

    fn read_on(&mut self) -> std::io::Result<()> {
        self.piece.resize(READ_AHEAD * size_of::<LiveBlob>(), 0);
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
        let live = |number: u32| LiveBlob::new(&hash(number), u64::from(number) << 8);
        for (limit, runs) in [(3_000, 0), (500, 2), (100, 10)] {
            let mut set = DigestSet::with_limit(Arc::new(Memory::default()), RunId::now(), limit);
            for number in 0..2_000 {
                set.extend(vec![live(number), live(number / 2)]).await.unwrap();
            }
            let set = set.finish();
            assert!(set.spilled.len() >= runs && set.recent.len() <= limit, "limit {limit}");
            let mut questions: Vec<(Hash, u32)> = (0..4_000).map(|n| (hash(n), n)).collect();
            questions.sort_unstable();
            let mut cursor = set.cursor();
            for (hash, number) in questions {
                let expected = (number < 2_000).then_some(u64::from(number) << 8);
                assert_eq!(cursor.find(&hash).unwrap(), expected, "limit {limit}");
                assert_eq!(cursor.find(&hash).unwrap(), expected, "asked again");
            }
        }
    }

    #[tokio::test]
    async fn an_empty_set_holds_nothing() {
        let set = DigestSet::new(Arc::new(Memory::default()), RunId::now()).finish();
        assert_eq!(set.cursor().find(&hash(1)).unwrap(), None);
    }

    #[test]
    fn a_size_of_many_terabytes_is_kept() {
        let size = (1 << 48) - 1;
        assert_eq!(LiveBlob::new(&hash(1), size).size(), size);
    }
}
