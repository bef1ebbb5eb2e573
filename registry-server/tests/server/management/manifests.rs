//! Deleting manifests.

use serde_json::json;

use crate::harness::client::{delete, get, head};
use crate::harness::content::{OCI_INDEX, image, index_of};
use crate::harness::conversation::{case, check};
use crate::harness::server::TestServer;

const DELETE: &str = "Deleting Manifests";
const NAME: &str = "management/manifests";
const HERE: &str = "/v2/management/manifests/manifests";

#[tokio::test]
async fn a_deleted_manifest_is_gone_with_every_tag_of_it() {
    let server = TestServer::start(json!({}));
    let (first, second) = (image(1), image(2));
    let mut client = server.client();
    client.push_image(NAME, "v1", &first).await;
    client.push_manifest(NAME, "also-v1", &first.manifest).await;
    client.push_image(NAME, "v2", &second).await;
    client.push_image("management/other", "v1", &first).await;
    let by_digest = format!("{HERE}/{}", first.manifest.digest());
    let gone = [by_digest.clone(), format!("{HERE}/v1"), format!("{HERE}/also-v1")];
    let rows = [case(DELETE, "upon success MUST be 202", [delete(&by_digest).gives(202).body("")])];
    let gone = gone.iter().map(|path| {
        let steps =
            [get(path).gives(404).code("MANIFEST_UNKNOWN"), head(path).gives(404), delete(path).gives(404)];
        case(DELETE, format!("{path}: a GET of it and any tag pointing to it is 404"), steps)
    });
    let list = json!({"name": NAME, "tags": ["v2"]});
    let kept = [
        case(DELETE, "the other tag", [get(&format!("{HERE}/v2")).gives(200).body(second.manifest.bytes)]),
        case(DELETE, "the other repository", [get("/v2/management/other/manifests/v1").gives(200)]),
        case(DELETE, "the list", [get(&format!("/v2/{NAME}/tags/list")).gives(200).json(list)]),
        case(
            DELETE,
            "its layers",
            [get(&format!("/v2/{NAME}/blobs/{}", first.blobs[0].digest())).gives(200)],
        ),
    ];
    check(&server, rows.into_iter().chain(gone).chain(kept)).await;
}

#[tokio::test]
async fn a_deleted_manifest_can_be_pushed_again() {
    let server = TestServer::start(json!({}));
    let image = image(1);
    let mut client = server.client();
    client.push_image(NAME, "v1", &image).await;
    let by_digest = format!("{HERE}/{}", image.manifest.digest());
    assert_eq!(client.send(delete(&by_digest)).await.status, 202);
    client.push_manifest(NAME, "v1", &image.manifest).await;
    for path in [&by_digest, &format!("{HERE}/v1")] {
        assert_eq!(client.send(get(path)).await.body, image.manifest.bytes, "{path}");
    }
}

/// A tag that moved on is not one of the deleted manifest's.
#[tokio::test]
async fn a_tag_that_moved_on_stays() {
    let server = TestServer::start(json!({}));
    let (first, second) = (image(1), index_of(OCI_INDEX, &[]));
    let mut client = server.client();
    client.push_image(NAME, "latest", &first).await;
    client.push_manifest(NAME, "latest", &second).await;
    assert_eq!(client.send(delete(&format!("{HERE}/{}", first.manifest.digest()))).await.status, 202);
    assert_eq!(client.send(get(&format!("{HERE}/latest"))).await.body, second.bytes);
}

#[tokio::test]
async fn a_manifest_that_is_not_there_is_404() {
    let server = TestServer::start(json!({}));
    let image = image(1);
    server.client().push_image(NAME, "v1", &image).await;
    let digest = image.manifest.digest();
    let missing = [
        format!("{HERE}/{}", index_of(OCI_INDEX, &[]).digest()),
        format!("{HERE}/{}", image.blobs[0].digest()),
        format!("/v2/management/none/manifests/{digest}"),
    ];
    let missing = missing.map(|path| case(DELETE, "MUST be 404", [delete(&path).gives(404)]));
    let malformed = ["sha256:abc", "sha256:"].map(|digest| {
        case(
            DELETE,
            "a malformed digest",
            [delete(&format!("{HERE}/{digest}")).gives(400).code("DIGEST_INVALID")],
        )
    });
    check(&server, missing.into_iter().chain(malformed)).await;
}
