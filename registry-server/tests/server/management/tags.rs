//! Deleting tags.

use serde_json::json;

use crate::harness::client::{delete, get, head};
use crate::harness::content::{Content, OCI_MANIFEST, image};
use crate::harness::conversation::{Case, case, check};
use crate::harness::server::TestServer;

const DELETE: &str = "Deleting tags";
const HERE: &str = "/v2/management/tags";

#[tokio::test]
async fn a_deleted_tag_is_gone_and_its_manifest_stays() {
    let server = TestServer::start(json!({}));
    let image = image(1);
    let mut client = server.client();
    client.push_image("management/tags", "v1", &image).await;
    client.push_manifest("management/tags", "v2", &image.manifest).await;
    let tag = format!("{HERE}/manifests/v1");
    let rows = [
        case(DELETE, "upon success MUST be 202", [delete(&tag).gives(202).body("")]),
        case(DELETE, "once deleted, a GET is 404", [get(&tag).gives(404).code("MANIFEST_UNKNOWN")]),
        case(DELETE, "and a HEAD", [head(&tag).gives(404)]),
        case(DELETE, "and another DELETE", [delete(&tag).gives(404).code("MANIFEST_UNKNOWN")]),
        case(DELETE, "the manifest stays", [get(&by_digest(&image.manifest)).gives(200)]),
        case(DELETE, "the other tag stays", [get(&format!("{HERE}/manifests/v2")).gives(200)]),
        listed(&["v2"]),
    ];
    check(&server, rows).await;
    client.push_manifest("management/tags", "v1", &image.manifest).await;
    check(&server, [case(DELETE, "it can be set again", [get(&tag).gives(200)]), listed(&["v1", "v2"])])
        .await;
}

#[tokio::test]
async fn the_last_tag_leaves_an_empty_list() {
    let server = TestServer::start(json!({}));
    server.client().push_image("management/tags", "v1", &image(1)).await;
    let gone = case(DELETE, "MUST be 202", [delete(&format!("{HERE}/manifests/v1")).gives(202)]);
    check(&server, [gone, listed(&[])]).await;
}

#[tokio::test]
async fn a_tag_that_is_not_there_is_404() {
    let server = TestServer::start(json!({}));
    server.client().push_image("management/tags", "v1", &image(1)).await;
    let paths = [format!("{HERE}/manifests/v2"), "/v2/management/none/manifests/v1".to_owned()];
    check(&server, paths.map(|path| case(DELETE, &path, [delete(&path).gives(404)]))).await;
}

fn listed(tags: &[&str]) -> Case {
    let body = json!({"name": "management/tags", "tags": tags});
    case(DELETE, "the list tells", [get(&format!("{HERE}/tags/list")).gives(200).json(body)])
}

fn by_digest(manifest: &Content) -> String {
    assert_eq!(manifest.media_type, OCI_MANIFEST);
    format!("{HERE}/manifests/{}", manifest.digest())
}
