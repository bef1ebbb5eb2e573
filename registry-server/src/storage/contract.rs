//! What every backend must keep, as one list of checks that each backend's tests run.

use std::io;

use bytes::Bytes;
use futures::stream;

use super::{ByteStream, Content, Durability, Entry, Error, Key, Leaf, Source, Storage};
use crate::types::{Algorithm, Digest, Hasher, RepositoryName, RunId, Tag, UploadId};

/// A body of the given chunks.
pub(super) fn body(chunks: &[&str]) -> ByteStream {
    let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from((*chunk).to_owned()))).collect();
    Box::pin(stream::iter(chunks))
}

fn broken_body(first: &'static str) -> ByteStream {
    Box::pin(stream::iter([Ok(Bytes::from(first)), Err(io::Error::from(io::ErrorKind::UnexpectedEof))]))
}

struct Names {
    repository: RepositoryName,
    nested: RepositoryName,
    tag: Tag,
    digest: Digest,
}

fn names() -> Names {
    Names {
        repository: "team/app".parse().unwrap(),
        nested: "team/app/nested".parse().unwrap(),
        tag: "v1".parse().unwrap(),
        digest: Hasher::digest(Algorithm::Sha256, b"hello world"),
    }
}

/// Runs every check against an empty storage.
pub(super) async fn run(storage: &dyn Storage) {
    let names = names();
    storage.check().await.unwrap();
    missing_things_are_not_found(storage, &names).await;
    a_put_replaces_and_reads_back(storage, &names).await;
    appends_go_on_at_the_end_only(storage, &names).await;
    a_broken_body_keeps_what_came_before(storage, &names).await;
    a_promotion_moves_whole_content_only(storage, &names).await;
    a_conditional_deletion_spares_what_is_newer(storage, &names).await;
    listing_shows_one_level(storage, &names).await;
    a_rename_has_one_winner(storage, &names).await;
    going_over_directories_finds_what_is_there(storage, &names).await;
    deleting_takes_one_thing_or_a_tree(storage, &names).await;
}

async fn missing_things_are_not_found(storage: &dyn Storage, names: &Names) {
    let key = Key::TagCurrent(&names.repository, &names.tag);
    let id = UploadId::random();
    let results = [
        storage.stat(key).await.err(),
        storage.open(key).await.err(),
        storage.read(key).await.err(),
        storage.delete(key, Durability::Durable).await.err(),
        storage.rename(key, Key::Lease, Durability::Durable).await.err(),
        storage.touch(key).await.err(),
        storage.walk(Key::Tags(&names.repository)).await.err(),
        storage.scan(Key::Tags(&names.repository), Leaf::CurrentLink).await.err(),
        storage.read_each(Key::Tags(&names.repository), Leaf::CurrentLink).await.err(),
        storage.crowded(Key::Tags(&names.repository), Leaf::History).await.err(),
        storage.delete_tree(Key::Repository(&names.repository)).await.err(),
        storage.list(Key::Tags(&names.repository)).await.err(),
        storage.promote(Key::UploadData(&names.repository, id), 0, Key::BlobData(&names.digest)).await.err(),
    ];
    for (row, error) in results.into_iter().enumerate() {
        assert!(matches!(error, Some(Error::NotFound { .. })), "row {row}: {error:?}");
    }
}

async fn a_put_replaces_and_reads_back(storage: &dyn Storage, names: &Names) {
    let key = Key::TagCurrent(&names.repository, &names.tag);
    for (bytes, durability) in
        [("first, longer", Durability::Durable), ("second", Durability::Process), ("", Durability::Durable)]
    {
        storage.put(key, bytes.as_bytes(), durability).await.unwrap();
        assert_eq!(storage.read(key).await.unwrap(), bytes);
        assert_eq!(storage.stat(key).await.unwrap().size, bytes.len() as u64);
        assert_eq!(bytes_of(&storage.open(key).await.unwrap()), bytes.as_bytes());
    }
}

async fn appends_go_on_at_the_end_only(storage: &dyn Storage, names: &Names) {
    let id = UploadId::random();
    storage.put(Key::UploadStartedAt(&names.repository, id), b"now", Durability::Process).await.unwrap();
    let key = Key::UploadData(&names.repository, id);
    assert_eq!(storage.append(key, 0, &mut body(&["hello", " "])).await.unwrap(), 6);
    for wrong in [0, 5, 7] {
        let error = storage.append(key, wrong, &mut body(&["x"])).await.unwrap_err();
        assert!(matches!(error, Error::OffsetMismatch { actual: 6, .. }), "{error:?}");
    }
    assert_eq!(storage.append(key, 6, &mut body(&[])).await.unwrap(), 6);
    assert_eq!(storage.append(key, 6, &mut body(&["world"])).await.unwrap(), 11);
    assert_eq!(storage.read(key).await.unwrap(), "hello world");
}

async fn a_broken_body_keeps_what_came_before(storage: &dyn Storage, names: &Names) {
    let id = UploadId::random();
    storage.put(Key::UploadStartedAt(&names.repository, id), b"now", Durability::Process).await.unwrap();
    let key = Key::UploadData(&names.repository, id);
    let error = storage.append(key, 0, &mut broken_body("hel")).await.unwrap_err();
    assert!(matches!(error, Error::Source(_)), "{error:?}");
    assert_eq!(storage.stat(key).await.unwrap().size, 3);
    assert_eq!(storage.append(key, 3, &mut body(&["lo"])).await.unwrap(), 5);
    assert_eq!(storage.read(key).await.unwrap(), "hello");
}

async fn a_promotion_moves_whole_content_only(storage: &dyn Storage, names: &Names) {
    let id = UploadId::random();
    storage.put(Key::UploadStartedAt(&names.repository, id), b"now", Durability::Process).await.unwrap();
    let (from, to) = (Key::UploadData(&names.repository, id), Key::BlobData(&names.digest));
    storage.append(from, 0, &mut body(&["hello world"])).await.unwrap();
    let error = storage.promote(from, 5, to).await.unwrap_err();
    assert!(matches!(error, Error::OffsetMismatch { expected: 5, actual: 11, .. }), "{error:?}");
    assert!(matches!(storage.stat(to).await, Err(Error::NotFound { .. })));

    storage.promote(from, 11, to).await.unwrap();
    assert!(matches!(storage.stat(from).await, Err(Error::NotFound { .. })));
    let opened = storage.open(to).await.unwrap();
    storage.append(from, 0, &mut body(&["again"])).await.unwrap();
    storage.promote(from, 5, to).await.unwrap();
    assert_eq!(storage.read(to).await.unwrap(), "again", "a promotion replaces what was there");
    assert_eq!(bytes_of(&opened), b"hello world", "what was opened before stays readable");
}

async fn listing_shows_one_level(storage: &dyn Storage, names: &Names) {
    storage.put(Key::RevisionLink(&names.nested, &names.digest), b"x", Durability::Durable).await.unwrap();
    let mut entries = storage.list(Key::Repository(&names.repository)).await.unwrap();
    entries.sort();
    let expected =
        ["_manifests", "_uploads", "nested"].map(|name| Entry { name: name.to_owned(), is_directory: true });
    assert_eq!(entries, expected);
    let link = Entry { name: "link".to_owned(), is_directory: false };
    storage.put(Key::TagCurrent(&names.nested, &names.tag), b"x", Durability::Durable).await.unwrap();
    assert!(!storage.list(Key::Tag(&names.nested, &names.tag)).await.unwrap().contains(&link));
}

async fn a_conditional_deletion_spares_what_is_newer(storage: &dyn Storage, names: &Names) {
    let key = Key::TagCurrent(&names.nested, &names.tag);
    storage.put(key, b"newer", Durability::Durable).await.unwrap();
    assert!(!storage.delete_if(key, b"older").await.unwrap());
    storage.prune(Key::Tag(&names.nested, &names.tag)).await.unwrap();
    assert_eq!(storage.read(key).await.unwrap(), "newer");
    assert!(storage.delete_if(key, b"newer").await.unwrap());
    assert!(!storage.delete_if(key, b"newer").await.unwrap());
    let _ = storage.prune(Key::Tag(&names.nested, &names.tag)).await;
    let left = storage.list(Key::Tag(&names.nested, &names.tag)).await;
    assert!(matches!(left, Err(Error::NotFound { .. })), "an empty directory is pruned: {left:?}");
}

async fn a_rename_has_one_winner(storage: &dyn Storage, names: &Names) {
    let (run, from) = (RunId::now(), Key::TagCurrent(&names.repository, &names.tag));
    let to = Key::Quarantined(&run, &from);
    storage.put(from, b"x", Durability::Durable).await.unwrap();
    assert!(!storage.rename_if(from, b"y", to).await.unwrap());
    assert!(storage.rename_if(from, b"x", to).await.unwrap());
    assert!(!storage.rename_if(from, b"x", to).await.unwrap());
    for durability in [Durability::Durable, Durability::Process] {
        storage.rename(to, from, durability).await.unwrap();
        assert!(matches!(storage.rename(to, from, durability).await, Err(Error::NotFound { .. })));
        storage.rename(from, to, durability).await.unwrap();
    }
    storage.put(from, b"newer", Durability::Durable).await.unwrap();
    storage.rename(to, from, Durability::Durable).await.unwrap();
    assert_eq!(storage.read(from).await.unwrap(), "x", "a rename replaces what was there");
    storage.put(from, b"", Durability::Durable).await.unwrap();
}

async fn going_over_directories_finds_what_is_there(storage: &dyn Storage, names: &Names) {
    let (name, tag, digest) = (&names.nested, &names.tag, &names.digest);
    storage.put(Key::TagCurrent(name, tag), b"x", Durability::Durable).await.unwrap();
    let other: Tag = "half".parse().unwrap();
    storage.put(Key::TagIndexLink(name, &other, digest), b"y", Durability::Durable).await.unwrap();

    for (leaf, expected) in [(Leaf::CurrentLink, "v1"), (Leaf::HistoryLink(digest), "half")] {
        let found = storage.scan(Key::Tags(name), leaf).await.unwrap();
        let [found] = &found[..] else { panic!("{found:?}") };
        assert_eq!((found.name.as_str(), found.stat.as_ref().unwrap().size), (expected, 1));
    }
    let mut read = storage.read_each(Key::Tags(name), Leaf::CurrentLink).await.unwrap();
    read.sort_by(|one, two| one.0.cmp(&two.0));
    let [(_, half), (_, whole)] = &read[..] else { panic!("{read:?}") };
    assert!(matches!(half, Err(Error::NotFound { .. })), "{half:?}");
    assert_eq!(whole.as_ref().unwrap(), "x");

    assert_eq!(storage.crowded(Key::Tags(name), Leaf::History).await.unwrap(), []);
    let another = Hasher::digest(Algorithm::Sha256, b"another");
    storage.put(Key::TagIndexLink(name, &other, &another), b"z", Durability::Durable).await.unwrap();
    let mut crowded = storage.crowded(Key::Tags(name), Leaf::History).await.unwrap();
    crowded[0].1.sort();
    let mut expected = [digest.hex().to_owned(), another.hex().to_owned()];
    expected.sort();
    assert_eq!(crowded, [("half".to_owned(), expected.to_vec())]);
    storage.delete_tree(Key::TagIndex(name, &other)).await.unwrap();
    storage.put(Key::TagIndexLink(name, &other, digest), b"y", Durability::Durable).await.unwrap();

    let mut files: Vec<_> = storage.walk(Key::Tag(name, &other)).await.unwrap();
    assert_eq!(files.len(), 1);
    let file = files.remove(0);
    assert_eq!(file.name, format!("index/sha256/{}/link", digest.hex()));
    assert_eq!(file.stat.unwrap().size, 1);
    storage.touch(Key::TagCurrent(name, tag)).await.unwrap();
    storage.delete_tree(Key::Tag(name, &other)).await.unwrap();
}

async fn deleting_takes_one_thing_or_a_tree(storage: &dyn Storage, names: &Names) {
    let link = Key::RevisionLink(&names.nested, &names.digest);
    storage.delete(link, Durability::Process).await.unwrap();
    assert!(matches!(storage.stat(link).await, Err(Error::NotFound { .. })));
    storage.delete_tree(Key::Tag(&names.nested, &names.tag)).await.unwrap();
    assert!(matches!(
        storage.read(Key::TagCurrent(&names.nested, &names.tag)).await,
        Err(Error::NotFound { .. })
    ));
    assert_eq!(storage.read(Key::TagCurrent(&names.repository, &names.tag)).await.unwrap(), "");
}

fn bytes_of(content: &Content) -> Vec<u8> {
    match &content.source {
        Source::Memory(bytes) => bytes.to_vec(),
        Source::File(file) => {
            let mut bytes = vec![0; usize::try_from(content.size).unwrap()];
            std::os::unix::fs::FileExt::read_exact_at(&**file, &mut bytes, 0).unwrap();
            bytes
        }
    }
}
