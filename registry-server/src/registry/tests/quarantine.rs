//! What a collector has condemned comes back when it is used, and use keeps it from being condemned.

use std::sync::Arc;

use super::{IMAGE, INDEX, image, name, push_blob, push_image, registry, sha256, tag};
use crate::registry::{Error, Registry};
use crate::storage::{Key, Memory, Storage};
use crate::types::{Algorithm, Hasher, Reference, RunId, Tag};

/// Puts what is stored under each key into the quarantine, as two runs of a collector do.
async fn condemn_all(registry: &Registry, keys: &[Key<'_>]) {
    for (number, key) in keys.iter().enumerate() {
        let run = format!("2026112{number}T000000Z-00000{number}").parse().unwrap();
        assert!(registry.condemn(&run, *key).await.unwrap(), "{key} was there");
    }
}

#[tokio::test]
async fn whatever_is_condemned_comes_back_when_it_is_used() {
    let (registry, name) = (registry(), name("a"));
    let image = push_image(&registry, &name, &tag("v1"), b"layer").await;
    let layer = sha256(b"layer");
    let by_digest = Reference::Digest(image.clone());
    let (link, data) = (Key::LayerLink(&name, &layer), Key::BlobData(&layer));
    let (revision, manifest) = (Key::RevisionLink(&name, &image), Key::BlobData(&image));

    condemn_all(&registry, &[link, data]).await;
    assert_eq!(registry.stat_blob(&name, &layer).await.unwrap(), 5);
    condemn_all(&registry, &[link, data]).await;
    assert_eq!(registry.open_blob(&name, &layer).await.unwrap().content.size, 5);
    condemn_all(&registry, &[link, data]).await;
    assert!(registry.mount_blob(&super::name("b"), &layer, Some(&name)).await.unwrap());
    condemn_all(&registry, &[revision, manifest]).await;
    let bytes = registry.get_manifest(&name, &by_digest).await.unwrap().bytes;
    condemn_all(&registry, &[link, data]).await;
    registry.put_manifest(&name, &tag("v2"), &[], Some(IMAGE), bytes).await.unwrap();
    for run in registry.quarantine_runs().await.unwrap() {
        assert_eq!(registry.condemned_by(&run).await.unwrap(), [], "what is used is moved, not copied");
    }
}

#[tokio::test]
async fn an_index_brings_back_what_its_children_need() {
    let (registry, name) = (registry(), name("a"));
    let child = push_image(&registry, &name, &tag("child"), b"layer").await;
    let layer = sha256(b"layer");
    let keys = [
        Key::LayerLink(&name, &layer),
        Key::BlobData(&layer),
        Key::RevisionLink(&name, &child),
        Key::BlobData(&child),
    ];
    condemn_all(&registry, &keys).await;
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{IMAGE}","digest":"{child}","size":1}}]}}"#
    );
    registry.put_manifest(&name, &tag("all"), &[], Some(INDEX), index.into()).await.unwrap();
    for key in keys {
        assert!(registry.exists(key).await.unwrap(), "{key}");
    }
}

#[tokio::test]
async fn what_a_client_deletes_does_not_come_back() {
    let (registry, name) = (registry(), name("a"));
    let image = push_image(&registry, &name, &tag("v1"), b"layer").await;
    let layer = sha256(b"layer");
    condemn_all(&registry, &[Key::LayerLink(&name, &layer), Key::RevisionLink(&name, &image)]).await;
    registry.delete_blob(&name, &layer).await.unwrap();
    assert!(matches!(registry.stat_blob(&name, &layer).await, Err(Error::BlobUnknown { .. })));
    registry.delete_manifest(&name, &image).await.unwrap();
    let gone = registry.get_manifest(&name, &Reference::Digest(image)).await;
    assert!(matches!(gone, Err(Error::ManifestUnknown { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_condemned_tag_is_gone_until_a_person_restores_it() {
    let (registry, name) = (registry(), name("a"));
    let image = push_image(&registry, &name, &tag("v1"), b"layer").await;
    let (run, v1): (_, Tag) = (RunId::now(), "v1".parse().unwrap());
    assert!(!registry.condemn_tag(&run, &name, &v1, &sha256(b"another")).await.unwrap());
    assert!(registry.condemn_tag(&run, &name, &v1, &image).await.unwrap());
    assert!(registry.get_manifest(&name, &tag("v1")).await.is_err());
    assert!(registry.restore_tag(&run, &name, &v1, &image).await.unwrap());
    assert_eq!(registry.get_manifest(&name, &tag("v1")).await.unwrap().digest, image);
    assert!(
        !registry.restore_tag(&run, &name, &v1, &image).await.unwrap(),
        "there is nothing more to restore"
    );
}

#[tokio::test]
async fn looking_for_an_old_manifest_makes_it_young_again_by_whatever_digest() {
    let bytes = image(b"{}", b"layer");
    let stored = sha256(&bytes);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let storage = Arc::new(Memory::default());
        let (registry, name) = (Registry::new(Arc::<Memory>::clone(&storage)), name("a"));
        push_image(&registry, &name, &tag("v1"), b"layer").await;
        let digest = Hasher::digest(algorithm, &bytes);
        let reference = Reference::Digest(digest.clone());
        registry.put_manifest(&name, &reference, &[], Some(IMAGE), bytes.clone()).await.unwrap();
        let fresh = Registry::new(Arc::<Memory>::clone(&storage));
        for registry in [&registry, &fresh] {
            let data = Key::BlobData(&stored);
            storage.age(&data.to_string(), std::time::Duration::from_secs(7200));
            registry.check_manifest(&name, &digest).await.unwrap();
            let age = storage.stat(data).await.unwrap().modified.elapsed().unwrap();
            assert!(age.as_secs() < 3600, "{digest}");
        }
    }
}

#[tokio::test]
async fn use_makes_an_old_blob_young_again() {
    let storage = Arc::new(Memory::default());
    let (registry, name) = (Registry::new(Arc::<Memory>::clone(&storage)), name("a"));
    let blob = push_blob(&registry, &name, b"layer").await;
    let data = Key::BlobData(&blob);
    let age = || async { storage.stat(data).await.unwrap().modified.elapsed().unwrap().as_secs() };
    for (old, young) in [(1800, false), (7200, true)] {
        storage.age(&data.to_string(), std::time::Duration::from_secs(old));
        registry.stat_blob(&name, &blob).await.unwrap();
        assert_eq!(age().await < 60, young, "after {old} s");
    }
}
