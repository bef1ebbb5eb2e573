//! Listing tags.

use serde_json::json;

use super::pages;
use crate::harness::client::{get, head};
use crate::harness::content::{OCI_INDEX, index_of};
use crate::harness::conversation::{case, check};
use crate::harness::server::TestServer;

const TAGS: &str = "Listing Tags";
const LIST: &str = "/v2/discovery/tags/tags/list";

/// In the order of their bytes.
const ORDERED: [&str; 9] = ["1", "10", "2", "A", "Z", "_x", "a", "v1", "v1.0-rc"];

#[tokio::test]
async fn tags_are_listed_in_order() {
    let server = server_with_tags(json!({})).await;
    let all = json!({"name": "discovery/tags", "tags": ORDERED});
    let rows = [
        case(
            TAGS,
            "MUST be 200 with the name and the tags in order",
            [get(LIST).gives(200).json(all).no_header("link")],
        ),
        case(TAGS, "the type is JSON", [get(LIST).gives(200).header("content-type", "application/json")]),
        case(TAGS, "HEAD", [head(LIST).gives(200).body("")]),
        case(
            TAGS,
            "an unknown repository",
            [get("/v2/discovery/none/tags/list").gives(404).code("NAME_UNKNOWN")],
        ),
    ];
    check(&server, rows).await;
}

#[tokio::test]
async fn a_part_of_the_tags_is_what_n_and_last_say() {
    let server = server_with_tags(json!({})).await;
    let parts: [(&str, &[&str]); 12] = [
        ("?n=0", &[]),
        ("?n=1", &ORDERED[..1]),
        ("?n=9", &ORDERED),
        ("?n=100", &ORDERED),
        ("?n=3&last=Z", &ORDERED[5..8]),
        ("?last=Z", &ORDERED[5..]),
        ("?n=100&last=Z", &ORDERED[5..]),
        ("?n=2&last=b", &ORDERED[7..]),
        ("?last=Z&n=1", &ORDERED[5..6]),
        ("?last=v1.0-rc", &[]),
        ("?last=zzz&n=5", &[]),
        ("?n=0&last=A", &[]),
    ];
    let rows = parts.map(|(query, tags)| {
        let body = json!({"name": "discovery/tags", "tags": tags});
        case(
            TAGS,
            format!("{query}: up to <int> tags after <tagname>"),
            [get(&format!("{LIST}{query}")).gives(200).json(body)],
        )
    });
    check(&server, rows).await;
    let link = |query: &str| get(&format!("{LIST}{query}")).gives(200);
    let rows = [
        case(TAGS, "n=0 MUST NOT include a Link", [link("?n=0").no_header("link")]),
        case(TAGS, "the last page has no Link", [link("?n=9").no_header("link")]),
        case(TAGS, "the last page has no Link", [link("?n=4&last=Z").no_header("link")]),
        case(
            TAGS,
            "more to come",
            [link("?n=8").header("link", format!("<{LIST}?last=v1&n=8>; rel=\"next\""))],
        ),
    ];
    check(&server, rows).await;
}

#[tokio::test]
async fn a_number_that_is_none_is_400() {
    let server = server_with_tags(json!({})).await;
    let rows = ["abc", "-1", "1.5", "99999999999999999999999", "%20"].map(|n| {
        let request = get(&format!("{LIST}?n={n}"));
        case(TAGS, format!("n={n}"), [request.gives(400).code("PAGINATION_NUMBER_INVALID")])
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn following_the_links_gives_every_tag_once() {
    let server = server_with_tags(json!({})).await;
    for n in 1..=10 {
        let pages = pages(&mut server.client(), &format!("{LIST}?n={n}"), "tags").await;
        assert_eq!(pages.concat(), ORDERED, "n={n}");
        assert_eq!(pages.len(), ORDERED.len().div_ceil(n), "n={n}");
    }
}

/// A client that asks for more than the registry gives at once is led on by `Link`.
#[tokio::test]
async fn the_registry_may_limit_a_page() {
    let server = server_with_tags(json!({"tags": {"maxtags": 4}})).await;
    let pages = pages(&mut server.client(), &format!("{LIST}?n=1000"), "tags").await;
    assert_eq!(pages.concat(), ORDERED);
    assert_eq!(pages.len(), 3);
}

#[tokio::test]
async fn no_tags_are_an_empty_list_and_never_null() {
    let server = TestServer::start(json!({}));
    let manifest = index_of(OCI_INDEX, &[]);
    server.client().push_manifest("discovery/untagged", &manifest.digest(), &manifest).await;
    let body = json!({"name": "discovery/untagged", "tags": []});
    let row =
        case(TAGS, "the list MAY be empty", [get("/v2/discovery/untagged/tags/list").gives(200).json(body)]);
    check(&server, [row]).await;
}

async fn server_with_tags(settings: serde_json::Value) -> TestServer {
    let server = TestServer::start(settings);
    let manifest = index_of(OCI_INDEX, &[]);
    let mut client = server.client();
    for tag in ["v1", "a", "Z", "10", "2", "1", "_x", "v1.0-rc", "A"] {
        client.push_manifest("discovery/tags", tag, &manifest).await;
    }
    server
}
