//! Writes a registry's tree as CNCF distribution lays it out, of as many images as asked for: for the benches, where
//! pushing them would take too long.
//!
//! Every image has a manifest, a configuration and ten layers of its own, of a few bytes each: what a garbage
//! collection reads and how it walks does not depend on their size. One image in four has no tag. Blobs of a size of
//! one's own come beside them, for those who measure pulls.

#![expect(clippy::expect_used, reason = "a program for benches may fail with a panic")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::json;
use sha2::{Digest, Sha256};

const LAYERS: usize = 10;

#[derive(Parser)]
struct Arguments {
    /// How many images.
    #[arg(long)]
    images: usize,
    /// How many tags; they are dealt out to three of four images.
    #[arg(long)]
    tags: usize,
    /// How many repositories the images are dealt out to.
    #[arg(long)]
    repositories: usize,
    /// Blobs of other sizes, `COUNTxBYTES`, in the repository `bench/blobs-BYTES`.
    #[arg(long, value_parser = parse_blobs)]
    blobs: Vec<(usize, usize)>,
    /// Where `docker/` is made.
    root: PathBuf,
}

fn main() {
    let arguments = Arguments::parse();
    let base = arguments.root.join("docker/registry/v2");
    let digests: Vec<String> =
        (0..arguments.images).map(|image| write_image(&base, &arguments, image)).collect();
    for &(count, size) in &arguments.blobs {
        let layers = base.join(format!("repositories/bench/blobs-{size}/_layers"));
        for number in 0..count {
            let digest = write_blob(&base, &noise(number, size));
            link(&layers.join(digest.replace(':', "/")), &digest);
        }
    }
    let tagged: Vec<usize> = (0..arguments.images).filter(|image| image % 4 != 3).collect();
    for tag in 0..arguments.tags {
        let image = tagged[tag % tagged.len()];
        let tags = repository(&base, &arguments, image).join("_manifests/tags").join(format!("v{tag}"));
        link(&tags.join("current"), &digests[image]);
        link(&tags.join("index").join(digests[image].replace(':', "/")), &digests[image]);
    }
}

fn parse_blobs(text: &str) -> Result<(usize, usize), String> {
    let parsed =
        text.split_once('x').and_then(|(count, size)| Some((count.parse().ok()?, size.parse().ok()?)));
    parsed.ok_or_else(|| format!("{text:?} is not COUNTxBYTES"))
}

/// Bytes that cannot be compressed; others for another seed.
fn noise(seed: usize, length: usize) -> Vec<u8> {
    let block = |number: usize| Sha256::digest(format!("{seed} {length} {number}"));
    let mut bytes: Vec<u8> = (0..length.div_ceil(32)).flat_map(block).collect();
    bytes.truncate(length);
    bytes
}

/// Writes all of an image but its tags, and gives its digest.
fn write_image(base: &Path, arguments: &Arguments, image: usize) -> String {
    let repository = repository(base, arguments, image);
    let descriptor = |media_type: &str, text: String| {
        let digest = write_blob(base, text.as_bytes());
        link(&repository.join("_layers").join(digest.replace(':', "/")), &digest);
        json!({"mediaType": media_type, "digest": digest, "size": text.len()})
    };
    let config = json!({"architecture": "amd64", "os": "linux", "image": image}).to_string();
    let config = descriptor("application/vnd.oci.image.config.v1+json", config);
    let layers: Vec<_> = (0..LAYERS)
        .map(|layer| {
            descriptor("application/vnd.oci.image.layer.v1.tar+gzip", format!("layer {layer} of {image}"))
        })
        .collect();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
    let digest = write_blob(base, manifest.to_string().as_bytes());
    link(&repository.join("_manifests/revisions").join(digest.replace(':', "/")), &digest);
    digest
}

/// Four neighbours, of which one has no tag, share a repository: distribution fails where there are no tags at all.
fn repository(base: &Path, arguments: &Arguments, image: usize) -> PathBuf {
    base.join("repositories").join(format!("bench/app{}", image / 4 % arguments.repositories))
}

fn write_blob(base: &Path, bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes it");
        hex
    });
    write(&base.join("blobs/sha256").join(&hex[..2]).join(&hex), "data", bytes);
    format!("sha256:{hex}")
}

fn link(directory: &Path, digest: &str) {
    write(directory, "link", digest.as_bytes());
}

fn write(directory: &Path, name: &str, bytes: &[u8]) {
    fs::create_dir_all(directory).expect("make a directory");
    fs::write(directory.join(name), bytes).expect("write a file");
}
