//! Registries that delete nothing, and registries that change nothing.

use serde_json::json;

use crate::harness::client::{delete, get, head, patch, post, put};
use crate::harness::content::{Content, OCI_LAYER, image};
use crate::harness::conversation::{Case, case, check};
use crate::harness::server::TestServer;

const NAME: &str = "management/refused";

#[tokio::test]
async fn a_registry_without_delete_says_405() {
    let server = TestServer::start(json!({"storage": {"delete": {"enabled": false}}}));
    let image = image(1);
    server.client().push_image(NAME, "v1", &image).await;
    let says = "if deletion is disabled, the registry MUST respond with either 400 or 405";
    let refused = [
        ("Deleting tags", "manifests/v1".to_owned()),
        ("Deleting Manifests", format!("manifests/{}", image.manifest.digest())),
        ("Deleting Blobs", format!("blobs/{}", image.blobs[0].digest())),
        ("Deleting Blobs", format!("blobs/{}", Content::new(OCI_LAYER, "never pushed").digest())),
    ];
    let refused = refused.map(|(section, path)| {
        case(section, says, [delete(&format!("/v2/{NAME}/{path}")).gives(405).code("UNSUPPORTED")])
    });
    check(&server, refused.into_iter().chain(still_served(&image))).await;
    let cancel = [post(&uploads()).gives(202), delete(crate::harness::client::LOCATION).gives(204)];
    check(&server, [case("Cancel a blob upload", "cancelling deletes nothing that was pushed", cancel)])
        .await;
}

/// The setting under which distribution's own offline collection is safe.
#[tokio::test]
async fn a_read_only_registry_serves_and_refuses_all_else() {
    let mut server = TestServer::start(json!({}));
    let image = image(1);
    let mut client = server.client();
    client.push_image(NAME, "v1", &image).await;
    client.send(post(&uploads())).await;
    let session = client.location().to_owned();

    server.kill();
    let read_only = json!({"storage": {"maintenance": {"readonly": {"enabled": true}}}});
    let server = TestServer::start_in(server.directory(), read_only);
    let manifest = format!("/v2/{NAME}/manifests/v1");
    let blob = image.blobs[0].digest();
    let refused = [
        post(&uploads()),
        post(&uploads()).query("digest", &blob),
        post(&uploads()).query("mount", &blob),
        patch(&session).sends("x"),
        put(&session).query("digest", &blob),
        delete(&session),
        put(&manifest).with("content-type", &image.manifest.media_type).sends(image.manifest.bytes.clone()),
        delete(&manifest),
        delete(&format!("/v2/{NAME}/blobs/{blob}")),
    ];
    let refused =
        refused.map(|request| case("Endpoints", "read-only", [request.gives(405).code("UNSUPPORTED")]));
    check(&server, refused.into_iter().chain(still_served(&image))).await;
}

fn still_served(image: &crate::harness::content::Image) -> [Case; 2] {
    let manifest = format!("/v2/{NAME}/manifests/v1");
    let blob = format!("/v2/{NAME}/blobs/{}", image.blobs[0].digest());
    [
        case("Pulling manifests", "still served", [get(&manifest).gives(200), head(&manifest).gives(200)]),
        case("Pulling blobs", "still served", [get(&blob).gives(200), head(&blob).gives(200)]),
    ]
}

fn uploads() -> String {
    format!("/v2/{NAME}/blobs/uploads/")
}
