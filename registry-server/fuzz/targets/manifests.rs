//! Manifests: what is taken can be read by everything that reads it later. The first line is the `Content-Type`.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use registry_server::types::manifest::References;
use registry_server::types::{Algorithm, Digest, Hasher, Manifest, Referrer};

fuzz_target!(|text: &str| {
    let (content_type, json) = text.split_once('\n').unwrap_or(("", text));
    let content_type = Some(content_type).filter(|line| !line.is_empty());
    let bytes = Bytes::copy_from_slice(json.as_bytes());
    let digest = Hasher::digest(Algorithm::Sha256, &bytes);
    let references = References::of(&bytes);
    let referrer = Referrer::of(&digest, &bytes);
    let stored = Manifest::stored(bytes.clone());
    let Ok(manifest) = Manifest::parse(bytes, content_type) else { return };

    assert!(content_type.is_some() || stored.unwrap().media_type() == manifest.media_type());
    let references = references.unwrap();
    let leads_to = |digest: &Digest| {
        references.blobs.iter().any(|(blob, _)| blob == digest) || references.children.contains(digest)
    };
    assert!(manifest.blobs().chain(manifest.children()).all(|one| leads_to(&one.digest)));
    assert_eq!(manifest.subject(), references.subject.as_ref());
    assert_eq!(manifest.subject(), referrer.as_ref().map(|(subject, _)| subject));
});
