//! Mounting a blob from another repository.

use serde_json::json;

use crate::harness::client::{LOCATION, get, post, put};
use crate::harness::content::{Content, OCI_LAYER, noise};
use crate::harness::conversation::{case, check};
use crate::harness::server::TestServer;

const MOUNT: &str = "Mounting a blob from another repository";

#[tokio::test]
async fn a_blob_is_mounted_without_a_transfer() {
    let server = TestServer::start(json!({}));
    let blob = Content::new(OCI_LAYER, noise(1, 3000));
    server.client().push_blob("push/source", &blob).await;
    let digest = blob.digest();
    let mount = |name: &str| post(&uploads(name)).query("mount", &digest);
    let path = |name: &str| format!("/v2/{name}/blobs/{digest}");
    let mounted = |name: &str, request: crate::harness::client::Request| {
        let answer =
            request.gives(201).header("location", path(name)).header("docker-content-digest", &digest);
        [answer.no_header("docker-upload-uuid"), get(LOCATION).gives(200).body(blob.bytes.clone())]
    };
    let (from, anonymous) = (mount("push/target").query("from", "push/source"), mount("push/anonymous"));
    let rows = [
        case(MOUNT, "a successful mount MUST be 201 with the blob's Location", mounted("push/target", from)),
        case(MOUNT, "the registry MAY treat from as optional", mounted("push/anonymous", anonymous)),
        case(MOUNT, "onto itself", mounted("push/source", mount("push/source").query("from", "push/source"))),
        case(
            MOUNT,
            "a slash may be encoded",
            mounted("push/encoded", mount("push/encoded").query("from", "push%2Fsource")),
        ),
    ];
    check(&server, rows).await;
}

#[tokio::test]
async fn a_mount_that_cannot_be_becomes_an_upload() {
    let server = TestServer::start(json!({}));
    let blob = Content::new(OCI_LAYER, noise(1, 3000));
    let missing = Content::new(OCI_LAYER, noise(2, 3000));
    server.client().push_blob("push/source", &blob).await;
    let mount = |digest: &str| post(&uploads("push/target")).query("mount", digest);
    let attempts = [
        ("a missing blob", mount(&missing.digest()).query("from", "push/source")),
        ("a missing blob, anonymously", mount(&missing.digest())),
        ("an unknown repository", mount(&missing.digest()).query("from", "push/nowhere")),
    ];
    let rows = attempts.map(|(says, request)| {
        let steps = [
            request.gives(202).header("range", "0-0").some_header("docker-upload-uuid"),
            get(LOCATION).gives(204),
            put(LOCATION).query("digest", &blob.digest()).sends(blob.bytes.clone()).gives(201),
        ];
        case(MOUNT, format!("{says} SHOULD be 202 with a session"), steps)
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn a_malformed_digest_cannot_be_mounted() {
    let server = TestServer::start(json!({}));
    let request = post(&uploads("push/target")).query("mount", "sha256:abc").query("from", "push/source");
    check(&server, [case(MOUNT, "a malformed digest", [request.gives(400).code("DIGEST_INVALID")])]).await;
}

fn uploads(name: &str) -> String {
    format!("/v2/{name}/blobs/uploads/")
}
