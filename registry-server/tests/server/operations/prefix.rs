//! A server behind a path of a shared host.

use serde_json::json;

use crate::harness::client::{LOCATION, get, post, put};
use crate::harness::content::{OCI_INDEX, index_of, sha256};
use crate::harness::conversation::{case, check};
use crate::harness::server::TestServer;

const PREFIX: &str = "http.prefix (CNCF distribution)";

#[tokio::test]
async fn every_address_has_the_prefix() {
    let server = TestServer::start(json!({"http": {"prefix": "/hub/"}}));
    let index = index_of(OCI_INDEX, &[]);
    let tagged = |tag: &str| {
        let request = put(&format!("/hub/v2/a/manifests/{tag}")).with("content-type", OCI_INDEX);
        let location = format!("/hub/v2/a/manifests/{}", index.digest());
        request.sends(index.bytes.clone()).gives(201).header("location", location)
    };
    let (blob, list) = (format!("/hub/v2/a/blobs/{}", sha256(b"x")), "/hub/v2/a/tags/list");
    let rows = [
        case(PREFIX, "the version", [get("/hub/v2/").gives(200), get("/v2/").gives(404)]),
        case(
            PREFIX,
            "uploads",
            [
                post("/hub/v2/a/blobs/uploads/").gives(202),
                put(LOCATION).query("digest", &sha256(b"x")).sends("x").gives(201).header("location", blob),
                get(LOCATION).gives(200).body("x"),
            ],
        ),
        case(PREFIX, "manifests", [tagged("v1"), tagged("v2"), get(LOCATION).gives(200)]),
        case(
            PREFIX,
            "links",
            [get(&format!("{list}?n=1"))
                .gives(200)
                .header("link", format!("<{list}?last=v1&n=1>; rel=\"next\""))],
        ),
    ];
    check(&server, rows).await;
}
