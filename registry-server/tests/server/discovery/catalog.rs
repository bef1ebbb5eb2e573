//! The catalogue: an endpoint of CNCF distribution that OCI does not specify.

use serde_json::json;

use super::pages;
use crate::harness::client::get;
use crate::harness::content::{Content, OCI_INDEX, OCI_LAYER, index_of};
use crate::harness::conversation::{case, check};
use crate::harness::server::TestServer;

const CATALOG: &str = "Catalog (CNCF distribution)";

/// In the order of their bytes, which is not that in which a walk of the directories meets them.
const ORDERED: [&str; 8] = ["a", "a-b", "a.b", "a/b", "a/b-c", "a/b/c", "a0", "b"];

#[tokio::test]
async fn repositories_are_listed_in_order() {
    let server = server_with_repositories(json!({})).await;
    let parts: [(&str, &[&str]); 7] = [
        ("", &ORDERED),
        ("?n=0", &[]),
        ("?n=3", &ORDERED[..3]),
        ("?n=3&last=a.b", &ORDERED[3..6]),
        ("?last=a/b", &ORDERED[4..]),
        ("?n=100&last=a%2Fb", &ORDERED[4..]),
        ("?last=b", &[]),
    ];
    let rows = parts.map(|(query, names)| {
        let request = get(&format!("/v2/_catalog{query}"));
        case(CATALOG, query, [request.gives(200).json(json!({"repositories": names}))])
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn following_the_links_gives_every_repository_once() {
    let server = server_with_repositories(json!({})).await;
    for n in 1..=9 {
        let pages = pages(&mut server.client(), &format!("/v2/_catalog?n={n}"), "repositories").await;
        assert_eq!(pages.concat(), ORDERED, "n={n}");
        assert_eq!(pages.len(), ORDERED.len().div_ceil(n), "n={n}");
    }
}

#[tokio::test]
async fn a_number_that_is_none_is_400() {
    let server = server_with_repositories(json!({})).await;
    let rows = ["abc", "-1", "1.5"].map(|n| {
        let request = get(&format!("/v2/_catalog?n={n}"));
        case(CATALOG, format!("n={n}"), [request.gives(400).code("PAGINATION_NUMBER_INVALID")])
    });
    check(&server, rows).await;
}

/// Where distribution refuses a number over its limit, ours gives a page and a link to the rest.
#[tokio::test]
async fn the_registry_may_limit_a_page() {
    let server = server_with_repositories(json!({"catalog": {"maxentries": 3}})).await;
    let pages = pages(&mut server.client(), "/v2/_catalog?n=1000", "repositories").await;
    assert_eq!(pages.concat(), ORDERED);
    assert_eq!(pages.len(), 3);
}

#[tokio::test]
async fn a_repository_without_manifests_is_not_listed() {
    let server = TestServer::start(json!({}));
    let empty = case(
        CATALOG,
        "an empty registry",
        [get("/v2/_catalog").gives(200).json(json!({"repositories": []}))],
    );
    check(&server, [empty]).await;
    server.client().push_blob("only/blobs", &Content::new(OCI_LAYER, "x")).await;
    let still =
        case(CATALOG, "only blobs", [get("/v2/_catalog").gives(200).json(json!({"repositories": []}))]);
    check(&server, [still]).await;
}

async fn server_with_repositories(settings: serde_json::Value) -> TestServer {
    let server = TestServer::start(settings);
    let manifest = index_of(OCI_INDEX, &[]);
    let mut client = server.client();
    for name in ["b", "a/b/c", "a/b", "a", "a0", "a-b", "a/b-c", "a.b"] {
        client.push_manifest(name, "latest", &manifest).await;
    }
    server
}
