//! What another program or a broken disk has left wrong in the tree heals when it is pushed again.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::harness::client::{Answer, LOCATION, get, head, patch, post, put};
use crate::harness::content::{Content, Image, OCI_LAYER, image, noise};
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
