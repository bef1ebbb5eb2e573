//! What another program or a broken disk has left wrong in the tree heals when it is pushed again.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::harness::client::{Answer, LOCATION, get, head, patch, post, put};
use crate::harness::content::{
    Content, Image, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, image, index_of, manifest_of, noise, sha512,
};
use crate::harness::conversation::{case, check};
use crate::harness::server::TestServer;
use crate::harness::tree::{Tree, blob_path};

const PUSH: &str = "Pushing blobs";
const NAME: &str = "push/damaged";

/// Ways in which bytes can be wrong, and what is then there instead of `whole`.
fn damages(whole: &[u8]) -> [(&'static str, Vec<u8>); 3] {
    let mut other = whole.to_vec();
    other[0] ^= 1;
    [("nothing", Vec::new()), ("a part", whole[..whole.len() / 2].to_vec()), ("another byte", other)]
}

fn damage(server: &TestServer, path: &str, bytes: &[u8]) {
    fs::write(in_tree(&server.root(), path), bytes).unwrap();
}

fn in_tree(root: &Path, path: &str) -> std::path::PathBuf {
    root.join("docker/registry/v2").join(path)
}

#[tokio::test]
async fn a_damaged_blob_is_whole_again_when_it_is_pushed_again_in_any_way() {
    let server = TestServer::start(json!({}));
    let blob = Content::new(OCI_LAYER, noise(1, 3000));
    let (digest, bytes) = (blob.digest(), blob.bytes.clone());
    let uploads = format!("/v2/{NAME}/blobs/uploads/");
    for (says, left) in damages(&blob.bytes) {
        let ways = [
            vec![post(&uploads).query("digest", &digest).sends(bytes.clone()).gives(201)],
            vec![
                post(&uploads).gives(202),
                put(LOCATION).query("digest", &digest).sends(bytes.clone()).gives(201),
            ],
            vec![
                post(&uploads).gives(202),
                patch(LOCATION).sends(bytes.slice(..1000)).gives(202),
                put(LOCATION).query("digest", &digest).sends(bytes.slice(1000..)).gives(201),
            ],
        ];
        for mut steps in ways {
            server.client().push_blob(NAME, &blob).await;
            damage(&server, &blob_path(&digest), &left);
            steps.push(get(&format!("/v2/{NAME}/blobs/{digest}")).gives(200).body(bytes.clone()));
            check(&server, [case(PUSH, format!("{says} is left of the blob"), steps)]).await;
        }
    }
}

/// As a power failure leaves it behind where a server acknowledges what it has not flushed. To clients it must be
/// absent, or none would push it again.
#[tokio::test]
async fn an_empty_file_in_place_of_a_blob_counts_as_absent() {
    let server = TestServer::start(json!({}));
    let Image { blobs, manifest } = image(1);
    let (digest, nothing) = (blobs[1].digest(), Content::new(OCI_LAYER, ""));
    server.client().push_image(NAME, "v1", &Image { blobs: blobs.clone(), manifest: manifest.clone() }).await;
    server.client().push_blob(NAME, &nothing).await;
    damage(&server, &blob_path(&digest), b"");
    let path = format!("/v2/{NAME}/blobs/{digest}");
    let mount =
        |from: &str| post("/v2/push/mounted/blobs/uploads/").query("mount", &digest).query("from", from);
    let push = put(&format!("/v2/{NAME}/manifests/v2")).with("content-type", &manifest.media_type);
    let steps = [
        head(&path).gives(404),
        get(&path).gives(404).code("BLOB_UNKNOWN"),
        mount(NAME).gives(202),
        push.sends(manifest.bytes.clone()).gives(400).code("MANIFEST_BLOB_UNKNOWN"),
        head(&format!("/v2/{NAME}/blobs/{}", nothing.digest())).gives(200),
    ];
    check(&server, [case(PUSH, "an empty file", steps)]).await;
    server.client().push_image(NAME, "v2", &Image { blobs, manifest }).await;
    assert_eq!(Tree::read(&server.root()).faults(), Vec::<String>::new());
}

/// Clients that look first are told that a blob is there which is cut short, for its size is known only from manifests.
#[tokio::test]
async fn a_blob_of_another_size_than_its_manifest_says_is_absent_from_then_on_when_it_is_damaged() {
    let server = TestServer::start(json!({}));
    let image = image(1);
    let index = index_of(OCI_INDEX, &[&image.manifest]);
    let list =
        Content::json(OCI_INDEX, &json!({"schemaVersion": 2, "manifests": [image.blobs[1].descriptor()]}));
    server.client().push_image(NAME, "v1", &image).await;
    let digest = image.blobs[1].digest();
    let path = format!("/v2/{NAME}/blobs/{digest}");
    let mount = || post("/v2/push/other/blobs/uploads/").query("mount", &digest).query("from", NAME);
    let longer = [image.blobs[1].bytes.as_ref(), b"more"].concat();
    for (manifest, left) in [
        (&image.manifest, &image.blobs[1].bytes[..700]),
        (&image.manifest, &longer),
        (&index, &image.blobs[1].bytes[..700]),
        (&list, &image.blobs[1].bytes[..700]),
    ] {
        damage(&server, &blob_path(&digest), left);
        let push = || {
            let push = put(&format!("/v2/{NAME}/manifests/v2")).with("content-type", &manifest.media_type);
            push.sends(manifest.bytes.clone())
        };
        let names_it = {
            let digest = digest.clone();
            move |answer: &Answer| answer.json()["errors"][0]["detail"]["digest"] == *digest
        };
        let steps = [
            head(&path).gives(200),
            push().gives(400).code("MANIFEST_BLOB_UNKNOWN").and("which", names_it),
            head(&path).gives(404),
            get(&path).gives(404).code("BLOB_UNKNOWN"),
            mount().gives(202),
            post(&format!("/v2/{NAME}/blobs/uploads/"))
                .query("digest", &digest)
                .sends(image.blobs[1].bytes.clone())
                .gives(201),
            push().gives(201),
            get(&path).gives(200).body(image.blobs[1].bytes.clone()),
        ];
        check(&server, [case(PUSH, format!("{} bytes are left of the blob", left.len()), steps)]).await;
    }
    assert_eq!(Tree::read(&server.root()).faults(), Vec::<String>::new());
}

/// Only hashing tells whether the manifest or the blob is wrong.
#[tokio::test]
async fn a_manifest_that_says_the_wrong_size_of_a_sound_blob_is_refused_and_the_blob_stays() {
    let server = TestServer::start(json!({}));
    let image = image(1);
    server.client().push_image(NAME, "v1", &image).await;
    let long = sha512(&image.blobs[1].bytes);
    server.client().push_blob_as(NAME, &long, &image.blobs[1]).await;
    for (digest, size) in [(image.blobs[1].digest(), 1499), (long, 1501), (image.blobs[1].digest(), 0)] {
        let mut manifest = manifest_of(OCI_MANIFEST, &image.blobs[0], &image.blobs[1..]);
        manifest["layers"][0]["digest"] = json!(digest);
        manifest["layers"][0]["size"] = json!(size);
        let says_both = move |answer: &Answer| {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            ["sha", "1500", &size.to_string()].iter().all(|part| text.contains(part))
        };
        let push = put(&format!("/v2/{NAME}/manifests/v2")).with("content-type", OCI_MANIFEST);
        let steps = [
            push.sends(manifest.to_string()).gives(400).code("MANIFEST_INVALID").and("both sizes", says_both),
            get(&format!("/v2/{NAME}/manifests/v2")).gives(404),
            get(&format!("/v2/{NAME}/blobs/{digest}")).gives(200).body(image.blobs[1].bytes.clone()),
        ];
        check(&server, [case(PUSH, format!("size {size}"), steps)]).await;
    }
}

/// Clients look whether it is there before they push it.
#[tokio::test]
async fn what_is_no_manifest_any_more_counts_as_absent() {
    let server = TestServer::start(json!({}));
    let image = image(1);
    server.client().push_image(NAME, "v1", &image).await;
    for left in ["", "{\"schemaVersion\": 2,"] {
        damage(&server, &blob_path(&image.manifest.digest()), left.as_bytes());
        for reference in ["v1", &image.manifest.digest()] {
            let path = format!("/v2/{NAME}/manifests/{reference}");
            let says_what_to_do =
                |answer: &Answer| String::from_utf8_lossy(&answer.body).contains("push it again");
            let get = get(&path).gives(404).code("MANIFEST_UNKNOWN").and("what to do", says_what_to_do);
            check(&server, [case(PUSH, reference, [head(&path).gives(404), get])]).await;
        }
    }
}

#[tokio::test]
async fn damaged_manifests_and_links_are_whole_again_when_the_image_is_pushed_again() {
    let server = TestServer::start(json!({}));
    let image = image(1);
    server.client().push_image(NAME, "v1", &image).await;
    let tree = Tree::read(&server.root());
    for (path, whole) in tree.finished() {
        for (says, left) in damages(whole) {
            damage(&server, path, &left);
            server.client().push_image(NAME, "v1", &image).await;
            let healed = Tree::read(&server.root());
            assert_eq!(healed.finished(), tree.finished(), "{path} with {says}");
        }
    }
}
