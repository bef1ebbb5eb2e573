//! Deleting blobs.

use serde_json::json;

use crate::harness::client::{delete, get, head};
use crate::harness::content::{Content, OCI_LAYER, noise};
use crate::harness::conversation::{case, check};
use crate::harness::server::TestServer;

const DELETE: &str = "Deleting Blobs";
const NAME: &str = "management/blobs";

#[tokio::test]
async fn a_deleted_blob_is_gone_from_its_repository_only() {
    let server = TestServer::start(json!({}));
    let blob = Content::new(OCI_LAYER, noise(1, 500));
    let mut client = server.client();
    client.push_blob(NAME, &blob).await;
    client.push_blob("management/other", &blob).await;
    let path = format!("/v2/{NAME}/blobs/{}", blob.digest());
    let other = format!("/v2/management/other/blobs/{}", blob.digest());
    let rows = [
        case(DELETE, "upon success MUST be 202", [delete(&path).gives(202).body("")]),
        case(DELETE, "once deleted", [get(&path).gives(404).code("BLOB_UNKNOWN"), head(&path).gives(404)]),
        case(
            DELETE,
            "if the blob is not found, 404 MUST be returned",
            [delete(&path).gives(404).code("BLOB_UNKNOWN")],
        ),
        case(DELETE, "the other repository", [get(&other).gives(200).body(blob.bytes.clone())]),
    ];
    check(&server, rows).await;
    client.push_blob(NAME, &blob).await;
    check(&server, [case(DELETE, "pushed again", [get(&path).gives(200).body(blob.bytes)])]).await;
}

#[tokio::test]
async fn a_blob_that_is_not_there_is_404_and_a_malformed_digest_400() {
    let server = TestServer::start(json!({}));
    let missing = Content::new(OCI_LAYER, "never pushed").digest();
    let rows = [
        case(
            DELETE,
            "missing",
            [delete(&format!("/v2/{NAME}/blobs/{missing}")).gives(404).code("BLOB_UNKNOWN")],
        ),
        case(
            DELETE,
            "malformed",
            [delete(&format!("/v2/{NAME}/blobs/sha256:a")).gives(400).code("DIGEST_INVALID")],
        ),
    ];
    check(&server, rows).await;
}
