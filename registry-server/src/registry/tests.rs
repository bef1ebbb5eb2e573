//! The registry's rules on the memory backend, and in which order they write.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Chunk, Error, Page, Registry};
use crate::config::{Blobs, IndexValidation, ManifestValidation, Platform, Platforms};
use crate::storage::{
    ByteStream, Content, Durability, Entry, Error as StorageError, Found, Key, Leaf, Memory,
    Result as StorageResult, Stat, Storage,
};
use crate::types::{Algorithm, ContentRange, Digest, Hasher, Reference, RepositoryName, Tag};

mod quarantine;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn registry() -> Registry {
    Registry::new(Arc::new(Memory::default()))
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn tag(text: &str) -> Reference {
    Reference::Tag(text.parse().unwrap())
}

fn sha256(bytes: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, bytes)
}

fn chunk(bytes: &'static [u8], range: Option<(u64, u64)>) -> Chunk {
    let body: ByteStream = Box::pin(futures::stream::iter([Ok(Bytes::from_static(bytes))]));
    Chunk {
        range: range.map(|(start, end)| ContentRange { start, end }),
        length: Some(bytes.len() as u64),
        body,
    }
}

async fn push_blob(registry: &Registry, name: &RepositoryName, bytes: &'static [u8]) -> Digest {
    let digest = sha256(bytes);
    let id = registry.start_upload(name).await.unwrap();
    registry.finish_upload(name, id, chunk(bytes, None), &digest).await.unwrap();
    digest
}

/// The manifest of an image whose configuration and layer are these bytes.
fn image(config: &[u8], layer: &[u8]) -> Bytes {
    let descriptor = |bytes: &[u8]| {
        format!(r#"{{"mediaType":"x/y","digest":"{}","size":{}}}"#, sha256(bytes), bytes.len())
    };
    format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#, descriptor(config), descriptor(layer))
        .into()
}

/// Pushes an image of one layer under a tag and gives its digest.
async fn push_image(
    registry: &Registry,
    name: &RepositoryName,
    reference: &Reference,
    layer: &'static [u8],
) -> Digest {
    push_blob(registry, name, b"{}").await;
    push_blob(registry, name, layer).await;
    let manifest = image(b"{}", layer);
    registry.put_manifest(name, reference, &[], Some(IMAGE), manifest).await.unwrap().digest
}

#[tokio::test]
async fn a_blob_comes_in_by_chunks_and_any_process_can_take_the_next() {
    let storage = Arc::new(Memory::default());
    let name = name("a");
    let first = Registry::new(Arc::<Memory>::clone(&storage));
    let id = first.start_upload(&name).await.unwrap();
    assert_eq!(first.upload_size(&name, id).await.unwrap(), 0);
    assert_eq!(first.append_upload(&name, id, chunk(b"hello ", Some((0, 5)))).await.unwrap(), 6);

    let second = Registry::new(storage);
    assert_eq!(second.upload_size(&name, id).await.unwrap(), 6);
    let digest = sha256(b"hello world");
    second.finish_upload(&name, id, chunk(b"world", Some((6, 10))), &digest).await.unwrap();
    assert_eq!(second.stat_blob(&name, &digest).await.unwrap(), 11);
    assert!(matches!(second.upload_size(&name, id).await, Err(Error::UploadUnknown { .. })));
}

#[tokio::test]
async fn a_lost_or_torn_hash_state_costs_only_a_second_read() {
    for torn in [None, Some(&b"torn"[..])] {
        let storage = Arc::new(Memory::default());
        let (registry, name) = (Registry::new(Arc::<Memory>::clone(&storage)), name("a"));
        let id = registry.start_upload(&name).await.unwrap();
        registry.append_upload(&name, id, chunk(b"hello ", None)).await.unwrap();
        let state = Key::UploadHashState(&name, id, 6);
        match torn {
            Some(bytes) => storage.put(state, bytes, Durability::Process).await.unwrap(),
            None => storage.delete(state, Durability::Durable).await.unwrap(),
        }
        let digest = sha256(b"hello world");
        registry.finish_upload(&name, id, chunk(b"world", None), &digest).await.unwrap();
        assert_eq!(registry.stat_blob(&name, &digest).await.unwrap(), 11);
    }
}

#[tokio::test]
async fn a_refused_chunk_changes_nothing_and_the_session_goes_on() {
    let (registry, name) = (registry(), name("a"));
    let id = registry.start_upload(&name).await.unwrap();
    registry.append_upload(&name, id, chunk(b"hello", None)).await.unwrap();
    let gap = registry.append_upload(&name, id, chunk(b"x", Some((7, 7)))).await;
    assert!(matches!(gap, Err(Error::ChunkOutOfOrder { offset: 5 })), "{gap:?}");
    let short = registry.append_upload(&name, id, chunk(b"x", Some((5, 9)))).await;
    assert!(matches!(short, Err(Error::ChunkSize { expected: 5, actual: 1 })), "{short:?}");
    let wrong = registry.finish_upload(&name, id, chunk(b"", None), &sha256(b"other")).await;
    assert!(matches!(wrong, Err(Error::DigestMismatch { .. })), "{wrong:?}");
    assert_eq!(registry.upload_size(&name, id).await.unwrap(), 5);
    registry.finish_upload(&name, id, chunk(b"", None), &sha256(b"hello")).await.unwrap();
}

#[tokio::test]
async fn a_blob_pushed_by_sha512_is_stored_once_and_found_by_both_digests() {
    let (registry, name) = (registry(), name("a"));
    let (short, long) = (sha256(b"hello"), Hasher::digest(Algorithm::Sha512, b"hello"));
    let id = registry.start_upload(&name).await.unwrap();
    registry.finish_upload(&name, id, chunk(b"hello", None), &long).await.unwrap();
    for digest in [&short, &long] {
        assert_eq!(registry.stat_blob(&name, digest).await.unwrap(), 5);
    }
    let other = self::name("b");
    assert!(registry.mount_blob(&other, &long, Some(&name)).await.unwrap());
    assert_eq!(registry.stat_blob(&other, &long).await.unwrap(), 5);
}

#[tokio::test]
async fn a_mount_needs_the_blob_where_it_is_said_to_be() {
    let (registry, source, target) = (registry(), name("a"), name("b"));
    let digest = push_blob(&registry, &source, b"hello").await;
    let unknown = sha256(b"unknown");
    assert!(!registry.mount_blob(&target, &digest, Some(&name("c"))).await.unwrap());
    assert!(!registry.mount_blob(&target, &unknown, Some(&source)).await.unwrap());
    assert!(!registry.mount_blob(&target, &unknown, None).await.unwrap());
    assert!(matches!(registry.stat_blob(&target, &digest).await, Err(Error::BlobUnknown { .. })));
    assert!(registry.mount_blob(&target, &digest, None).await.unwrap());
    assert_eq!(registry.stat_blob(&target, &digest).await.unwrap(), 5);
}

#[tokio::test]
async fn a_manifest_needs_all_that_it_refers_to_in_its_own_repository() {
    let (registry, name, other) = (registry(), name("a"), name("b"));
    push_blob(&registry, &name, b"{}").await;
    let foreign = push_blob(&registry, &other, b"layer").await;
    let refused = registry.put_manifest(&name, &tag("v1"), &[], Some(IMAGE), image(b"{}", b"layer")).await;
    assert!(matches!(&refused, Err(Error::ManifestBlobUnknown { missing }) if *missing == [foreign.clone()]));

    let child = push_image(&registry, &name, &tag("v1"), b"layer").await;
    let index = |digest: &Digest| {
        Bytes::from(format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{IMAGE}","digest":"{digest}","size":1}}]}}"#
        ))
    };
    let refused = registry.put_manifest(&other, &tag("all"), &[], Some(INDEX), index(&child)).await;
    assert!(matches!(&refused, Err(Error::ManifestBlobUnknown { missing }) if *missing == [child.clone()]));
    registry.put_manifest(&name, &tag("all"), &[], Some(INDEX), index(&child)).await.unwrap();
}

#[tokio::test]
async fn what_need_not_be_there_is_a_matter_of_settings() {
    let (absent, linux) = (sha256(b"absent"), r#"{"os":"linux","architecture":"arm64"}"#);
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{IMAGE}","digest":"{absent}","size":1,"platform":{linux}}}]}}"#
    );
    let platform = |architecture: &str| Platform { os: "linux".into(), architecture: architecture.into() };
    let indexes = |platforms, platformlist| ManifestValidation {
        indexes: IndexValidation { platforms, platformlist },
        ..ManifestValidation::default()
    };
    let sparse = ManifestValidation { blobs: Blobs::Optional, ..indexes(Platforms::None, Vec::new()) };
    for (validation, takes_index, takes_image) in [
        (ManifestValidation::default(), false, false),
        (indexes(Platforms::None, Vec::new()), true, false),
        (indexes(Platforms::List, vec![platform("amd64")]), true, false),
        (indexes(Platforms::List, vec![platform("amd64"), platform("arm64")]), false, false),
        (sparse, true, true),
    ] {
        let (registry, name) = (registry().with_validation(validation.clone()), name("a"));
        let taken = registry.put_manifest(&name, &tag("all"), &[], Some(INDEX), index.clone().into()).await;
        assert_eq!(taken.is_ok(), takes_index, "{validation:?}");
        let image = image(b"absent", b"absent");
        let taken = registry.put_manifest(&name, &tag("one"), &[], Some(IMAGE), image).await;
        assert_eq!(taken.is_ok(), takes_image, "{validation:?}");
    }
}

#[tokio::test]
async fn an_index_is_refused_when_a_blob_of_its_child_is_lost() {
    let storage = Arc::new(Memory::default());
    let (registry, name) = (Registry::new(Arc::<Memory>::clone(&storage)), name("a"));
    let child = push_image(&registry, &name, &tag("v1"), b"layer").await;
    storage.remove(&Key::BlobData(&sha256(b"layer")).to_string());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{IMAGE}","digest":"{child}","size":1}}]}}"#
    );
    let refused = registry.put_manifest(&name, &tag("all"), &[], Some(INDEX), index.into()).await;
    let lost = [sha256(b"layer")];
    assert!(
        matches!(&refused, Err(Error::ManifestBlobUnknown { missing }) if *missing == lost),
        "{refused:?}"
    );
}

#[tokio::test]
async fn manifests_are_served_as_they_were_pushed_by_tag_and_digest() {
    let (registry, name) = (registry(), name("a"));
    let digest = push_image(&registry, &name, &tag("v1"), b"layer").await;
    for reference in [tag("v1"), Reference::Digest(digest.clone())] {
        let manifest = registry.get_manifest(&name, &reference).await.unwrap();
        assert_eq!(manifest.digest, digest);
        assert_eq!(manifest.media_type.as_str(), IMAGE);
        assert_eq!(sha256(&manifest.bytes), digest);
    }
    for reference in [tag("v2"), Reference::Digest(sha256(b"layer"))] {
        let missing = registry.get_manifest(&name, &reference).await;
        assert!(matches!(missing, Err(Error::ManifestUnknown { .. })), "{reference}");
    }
}

#[tokio::test]
async fn deleting_a_manifest_takes_its_tags_and_deleting_a_tag_leaves_the_manifest() {
    let (registry, name) = (registry(), name("a"));
    let old = push_image(&registry, &name, &tag("old"), b"old").await;
    let new = push_image(&registry, &name, &tag("new"), b"new").await;
    let latest = push_image(&registry, &name, &tag("latest"), b"new").await;
    assert_eq!(new, latest);
    let _moved = push_image(&registry, &name, &tag("moved"), b"new").await;
    let elsewhere = push_image(&registry, &name, &tag("moved"), b"elsewhere").await;

    registry.delete_tag(&name, &"old".parse().unwrap()).await.unwrap();
    registry.get_manifest(&name, &Reference::Digest(old)).await.unwrap();
    registry.delete_manifest(&name, &new).await.unwrap();
    let left = registry.list_tags(&name, None, None).await.unwrap().entries;
    assert_eq!(left, ["moved".parse().unwrap()]);
    assert_eq!(registry.get_manifest(&name, &tag("moved")).await.unwrap().digest, elsewhere);
    for deleted in [Reference::Digest(new.clone()), tag("latest"), tag("old")] {
        assert!(matches!(registry.get_manifest(&name, &deleted).await, Err(Error::ManifestUnknown { .. })));
    }
    assert!(matches!(registry.delete_manifest(&name, &new).await, Err(Error::ManifestUnknown { .. })));
    let gone = registry.delete_tag(&name, &"old".parse().unwrap()).await;
    assert!(matches!(gone, Err(Error::ManifestUnknown { .. })));
}

#[tokio::test]
async fn a_tag_whose_revision_is_lost_heals_when_it_is_read() {
    let storage = Arc::new(Memory::default());
    let (registry, name) = (Registry::new(Arc::<Memory>::clone(&storage)), name("a"));
    let digest = push_image(&registry, &name, &tag("v1"), b"layer").await;
    storage.delete(Key::RevisionLink(&name, &digest), Durability::Durable).await.unwrap();
    let by_digest = Reference::Digest(digest.clone());
    assert!(matches!(registry.get_manifest(&name, &by_digest).await, Err(Error::ManifestUnknown { .. })));
    registry.get_manifest(&name, &tag("v1")).await.unwrap();
    registry.get_manifest(&name, &by_digest).await.unwrap();
}

#[tokio::test]
async fn a_damaged_manifest_is_the_servers_fault_and_heals_when_it_is_pushed_again() {
    let storage = Arc::new(Memory::default());
    let (registry, name) = (Registry::new(Arc::<Memory>::clone(&storage)), name("a"));
    let digest = push_image(&registry, &name, &tag("v1"), b"layer").await;
    storage.put(Key::BlobData(&digest), b"{\"schemaV", Durability::Durable).await.unwrap();
    let damaged = registry.get_manifest(&name, &tag("v1")).await;
    assert!(matches!(damaged, Err(Error::ManifestDamaged { .. })), "{damaged:?}");
    push_image(&registry, &name, &tag("v1"), b"layer").await;
    registry.get_manifest(&name, &tag("v1")).await.unwrap();
}

#[tokio::test]
async fn a_damaged_blob_is_discarded_and_what_was_pushed_meanwhile_is_not() {
    let storage = Arc::new(Memory::default());
    let (registry, name) = (Registry::new(Arc::<Memory>::clone(&storage)), name("a"));
    let digest = push_blob(&registry, &name, b"layer").await;
    let data = Key::BlobData(&digest);
    let whole = storage.stat(data).await.unwrap();
    let damaged = Stat { size: whole.size - 1, ..whole };

    registry.discard(data, &damaged).await.unwrap();
    assert_eq!(storage.stat(data).await.unwrap(), whole);
    registry.discard(data, &whole).await.unwrap();
    assert!(storage.stat(data).await.is_err());
    registry.discard(data, &whole).await.unwrap();
    assert_eq!(registry.quarantine_runs().await.unwrap(), []);
}

#[tokio::test]
async fn a_torn_link_is_absent_until_it_is_pushed_again() {
    let storage = Arc::new(Memory::default());
    let (registry, name) = (Registry::new(Arc::<Memory>::clone(&storage)), name("a"));
    let digest = push_blob(&registry, &name, b"layer").await;
    for torn in [&b""[..], b"sha256:12", b"\xff"] {
        storage.put(Key::LayerLink(&name, &digest), torn, Durability::Process).await.unwrap();
        assert!(matches!(registry.stat_blob(&name, &digest).await, Err(Error::BlobUnknown { .. })));
    }
    push_blob(&registry, &name, b"layer").await;
    registry.stat_blob(&name, &digest).await.unwrap();
}

#[tokio::test]
async fn tags_are_paged_in_byte_order() {
    let (registry, name) = (registry(), name("a"));
    let unknown = registry.list_tags(&name, None, None).await;
    assert!(matches!(unknown, Err(Error::NameUnknown { .. })));
    let digest = push_image(&registry, &name, &tag("b"), b"layer").await;
    for other in ["a", "B", "c"] {
        push_image(&registry, &name, &tag(other), b"layer").await;
    }
    let untagged = sha256(&image(b"{}", b"untagged"));
    let rows: [(Option<&str>, Option<usize>, &[&str], bool); 6] = [
        (None, None, &["B", "a", "b", "c"], false),
        (None, Some(2), &["B", "a"], true),
        (Some("a"), Some(2), &["b", "c"], false),
        (Some("aa"), None, &["b", "c"], false),
        (Some("c"), Some(1), &[], false),
        (None, Some(0), &[], true),
    ];
    for (last, limit, expected, more) in rows {
        let page = registry.list_tags(&name, last, limit).await.unwrap();
        let tags: Vec<&str> = page.entries.iter().map(Tag::as_str).collect();
        assert_eq!((tags.as_slice(), page.more), (expected, more), "after {last:?}, at most {limit:?}");
    }
    push_image(&registry, &name, &Reference::Digest(untagged), b"untagged").await;
    registry.delete_manifest(&name, &digest).await.unwrap();
    assert_eq!(registry.list_tags(&name, None, None).await.unwrap(), Page { entries: vec![], more: false });
}

#[tokio::test]
async fn repositories_are_paged_in_byte_order_however_they_nest() {
    let registry = registry();
    for repository in ["a/b", "a", "a-b/c", "b/c/d", "a-b", "z"] {
        push_image(&registry, &name(repository), &tag("v1"), b"layer").await;
    }
    push_blob(&registry, &name("only/blobs"), b"layer").await;
    let all = ["a", "a-b", "a-b/c", "a/b", "b/c/d", "z"];
    for start in 0..=all.len() {
        let last = start.checked_sub(1).map(|index| all[index]);
        for limit in 0..=all.len() + 1 {
            let page = registry.list_repositories(last, limit, |_| true).await.unwrap();
            let names: Vec<&str> = page.entries.iter().map(RepositoryName::as_str).collect();
            let end = all.len().min(start + limit);
            assert_eq!(names, all[start..end], "after {last:?}, at most {limit}");
            assert_eq!(page.more, end < all.len(), "after {last:?}, at most {limit}");
        }
    }
    let shown = registry.list_repositories(None, 1, |name| name.as_str() > "a-b").await.unwrap();
    assert_eq!((shown.entries.len(), shown.entries[0].as_str() > "a-b"), (1, true));
    let between = registry.list_repositories(Some("a-c"), 1, |_| true).await.unwrap();
    assert_eq!(between.entries, [name("a/b")]);
}

/// A storage that writes down what changes, and once does something else just before a change.
#[derive(Debug, Default)]
struct Scripted {
    inner: Memory,
    writes: Mutex<Vec<String>>,
    /// When a path that ends so is about to be written, these are deleted first.
    sabotage: Mutex<Option<(String, Vec<String>)>>,
}

impl Scripted {
    fn note(&self, action: &str, key: Key<'_>) {
        let path = format!("{key}/");
        let kinds = ["current", "index", "revisions", "_layers", "blobs", "_uploads", "pulled"];
        let kind = kinds.into_iter().find(|part| path.contains(&format!("/{part}/"))).unwrap_or("other");
        self.writes.lock().unwrap().push(format!("{action} {kind}"));
    }
}

#[async_trait]
impl Storage for Scripted {
    async fn stat(&self, key: Key<'_>) -> StorageResult<Stat> {
        self.inner.stat(key).await
    }
    async fn open(&self, key: Key<'_>) -> StorageResult<Content> {
        self.inner.open(key).await
    }
    async fn read(&self, key: Key<'_>) -> StorageResult<Bytes> {
        self.inner.read(key).await
    }
    async fn put(&self, key: Key<'_>, bytes: &[u8], durability: Durability) -> StorageResult<()> {
        self.note("put", key);
        self.inner.put(key, bytes, durability).await?;
        let due = self.sabotage.lock().unwrap().take_if(|(trigger, _)| key.to_string().contains(&*trigger));
        for path in due.into_iter().flat_map(|(_, paths)| paths) {
            self.inner.remove(&path);
        }
        Ok(())
    }
    async fn append(&self, key: Key<'_>, offset: u64, body: &mut ByteStream) -> StorageResult<u64> {
        self.inner.append(key, offset, body).await
    }
    async fn promote(&self, from: Key<'_>, size: u64, to: Key<'_>) -> StorageResult<()> {
        self.note("promote", to);
        self.inner.promote(from, size, to).await
    }
    async fn rename(&self, from: Key<'_>, to: Key<'_>, durability: Durability) -> StorageResult<()> {
        self.note("rename", to);
        self.inner.rename(from, to, durability).await
    }
    async fn rename_if(&self, from: Key<'_>, expected: &[u8], to: Key<'_>) -> StorageResult<bool> {
        self.note("rename", to);
        self.inner.rename_if(from, expected, to).await
    }
    async fn touch(&self, key: Key<'_>) -> StorageResult<()> {
        self.note("touch", key);
        self.inner.touch(key).await
    }
    async fn list(&self, key: Key<'_>) -> StorageResult<Vec<Entry>> {
        self.inner.list(key).await
    }
    async fn crowded(&self, key: Key<'_>, below: Leaf<'_>) -> StorageResult<Vec<(String, Vec<String>)>> {
        self.inner.crowded(key, below).await
    }
    async fn scan(&self, key: Key<'_>, leaf: Leaf<'_>) -> StorageResult<Vec<Found>> {
        self.inner.scan(key, leaf).await
    }
    async fn read_each(
        &self,
        key: Key<'_>,
        leaf: Leaf<'_>,
    ) -> StorageResult<Vec<(String, StorageResult<Bytes>)>> {
        self.inner.read_each(key, leaf).await
    }
    async fn walk(&self, key: Key<'_>) -> StorageResult<Vec<Found>> {
        self.inner.walk(key).await
    }
    async fn delete(&self, key: Key<'_>, durability: Durability) -> StorageResult<()> {
        self.note("delete", key);
        self.inner.delete(key, durability).await
    }
    async fn delete_if(&self, key: Key<'_>, expected: &[u8]) -> StorageResult<bool> {
        self.note("delete", key);
        self.inner.delete_if(key, expected).await
    }
    async fn prune(&self, key: Key<'_>) -> StorageResult<()> {
        self.inner.prune(key).await
    }
    async fn delete_tree(&self, key: Key<'_>) -> StorageResult<()> {
        self.note("delete", key);
        self.inner.delete_tree(key).await
    }
    async fn check(&self) -> StorageResult<()> {
        Err(StorageError::NotFound { path: String::new() })
    }
}

#[tokio::test]
async fn content_is_written_before_links_and_tags_are_deleted_before_revisions() {
    let storage = Arc::new(Scripted::default());
    let (registry, name) = (Registry::new(Arc::<Scripted>::clone(&storage)), name("a"));
    push_blob(&registry, &name, b"{}").await;
    let writes = || std::mem::take(&mut *storage.writes.lock().unwrap());
    let blob: Vec<String> = writes().into_iter().filter(|write| !write.contains("_uploads")).collect();
    assert_eq!(blob, ["promote blobs", "put _layers"]);

    let pushed =
        registry.put_manifest(&name, &tag("v1"), &[], Some(IMAGE), image(b"{}", b"{}")).await.unwrap();
    assert_eq!(writes(), ["put blobs", "put revisions", "put index", "put current"]);
    registry.delete_manifest(&name, &pushed.digest).await.unwrap();
    assert_eq!(writes(), ["delete current", "delete index", "delete pulled", "delete revisions"]);
}

#[tokio::test]
async fn a_push_is_not_acknowledged_when_a_collector_took_its_blobs_before_the_tag() {
    let storage = Arc::new(Scripted::default());
    let (registry, name) = (Registry::new(Arc::<Scripted>::clone(&storage)), name("a"));
    let config = push_blob(&registry, &name, b"{}").await;
    let blob = Key::BlobData(&config).to_string();
    *storage.sabotage.lock().unwrap() = Some(("/revisions/".to_owned(), vec![blob]));
    let refused = registry.put_manifest(&name, &tag("v1"), &[], Some(IMAGE), image(b"{}", b"{}")).await;
    assert!(matches!(refused, Err(Error::ManifestBlobUnknown { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_push_writes_its_own_manifest_again_when_a_collector_took_it() {
    let storage = Arc::new(Scripted::default());
    let (registry, name) = (Registry::new(Arc::<Scripted>::clone(&storage)), name("a"));
    push_blob(&registry, &name, b"{}").await;
    let manifest = image(b"{}", b"{}");
    let digest = sha256(&manifest);
    let taken =
        [Key::BlobData(&digest), Key::RevisionLink(&name, &digest)].map(|key| key.to_string()).to_vec();
    *storage.sabotage.lock().unwrap() = Some(("/index/".to_owned(), taken));
    registry.put_manifest(&name, &tag("v1"), &[], Some(IMAGE), manifest).await.unwrap();
    registry.get_manifest(&name, &Reference::Digest(digest)).await.unwrap();
}
