//! Things to push: blobs of repeatable bytes, and manifests of every kind over them.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

use super::client::{Answer, Client, put};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// `sha256:<hex>` of the bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    digest("sha256", &Sha256::digest(bytes))
}

/// `sha512:<hex>` of the bytes.
pub(crate) fn sha512(bytes: &[u8]) -> String {
    digest("sha512", &Sha512::digest(bytes))
}

fn digest(algorithm: &str, hash: &[u8]) -> String {
    hash.iter().fold(format!("{algorithm}:"), |mut digest, byte| {
        write!(digest, "{byte:02x}").expect("a string takes it");
        digest
    })
}

/// Bytes that look random and are the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Bytes {
    let mut random = Random::seeded(seed);
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes.into()
}

/// A small generator whose whole sequence follows from its seed (`SplitMix64`).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Bytes with their media type: a blob or a manifest.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

impl Content {
    pub(crate) fn new(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        Self { media_type: media_type.to_owned(), bytes: bytes.into() }
    }

    /// The value printed as JSON, with indentation that a server which re-serialised it would lose.
    pub(crate) fn json(media_type: &str, value: &Value) -> Self {
        Self::new(media_type, serde_json::to_vec_pretty(value).expect("a JSON value"))
    }

    pub(crate) fn digest(&self) -> String {
        sha256(&self.bytes)
    }

    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

/// A manifest and the blobs that it needs.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) blobs: Vec<Content>,
    pub(crate) manifest: Content,
}

/// An OCI image of a configuration and two layers; another seed makes another image.
pub(crate) fn image(seed: u64) -> Image {
    let config = Content::json(
        OCI_CONFIG,
        &json!({"architecture": "amd64", "os": "linux", "seed": seed, "rootfs": {"type": "layers", "diff_ids": []}}),
    );
    let layers =
        [noise(seed ^ 0xa, 1500), noise(seed ^ 0xb, 4096)].map(|bytes| Content::new(OCI_LAYER, bytes));
    let manifest = Content::json(OCI_MANIFEST, &manifest_of(OCI_MANIFEST, &config, &layers));
    Image { blobs: [&[config], layers.as_slice()].concat(), manifest }
}

/// The fields of an image manifest.
pub(crate) fn manifest_of(media_type: &str, config: &Content, layers: &[Content]) -> Value {
    let layers: Vec<Value> = layers.iter().map(Content::descriptor).collect();
    json!({"schemaVersion": 2, "mediaType": media_type, "config": config.descriptor(), "layers": layers})
}

/// An index or a manifest list over the manifests.
pub(crate) fn index_of(media_type: &str, manifests: &[&Content]) -> Content {
    let manifests: Vec<Value> = manifests.iter().map(|manifest| manifest.descriptor()).collect();
    Content::json(media_type, &json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}))
}

impl Client {
    /// Pushes the blob in one request.
    pub(crate) async fn push_blob(&mut self, repository: &str, blob: &Content) {
        self.push_blob_as(repository, &blob.digest(), blob).await;
    }

    /// Pushes the blob in one request, by a digest of any algorithm.
    pub(crate) async fn push_blob_as(&mut self, repository: &str, digest: &str, blob: &Content) {
        let start = format!("/v2/{repository}/blobs/uploads/");
        let answer = self.send(super::client::post(&start)).await;
        assert_eq!(answer.status, 202, "{start}: {answer}");
        let finish = put(super::client::LOCATION).query("digest", digest).sends(blob.bytes.clone());
        let answer = self.send(finish).await;
        assert_eq!(answer.status, 201, "{start}: {answer}");
    }

    /// Sends the manifest; the caller judges the answer.
    pub(crate) async fn put_manifest(
        &mut self,
        repository: &str,
        reference: &str,
        manifest: &Content,
    ) -> Answer {
        let target = format!("/v2/{repository}/manifests/{reference}");
        let media_type = manifest.media_type.clone();
        self.send(put(&target).with("content-type", media_type).sends(manifest.bytes.clone())).await
    }

    /// Pushes a manifest that the server has to take.
    pub(crate) async fn push_manifest(&mut self, repository: &str, reference: &str, manifest: &Content) {
        let answer = self.put_manifest(repository, reference, manifest).await;
        assert_eq!(answer.status, 201, "{repository}:{reference}: {answer}");
    }

    /// Pushes the blobs, then the manifest under the tag.
    pub(crate) async fn push_image(&mut self, repository: &str, tag: &str, image: &Image) {
        for blob in &image.blobs {
            self.push_blob(repository, blob).await;
        }
        self.push_manifest(repository, tag, &image.manifest).await;
    }
}
