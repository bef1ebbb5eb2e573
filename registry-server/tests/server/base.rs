//! What comes before the chapters: the version check, names, routes, and the form of errors.

use http::Method;
use serde_json::json;

use crate::harness::client::{Answer, LOCATION, Request, delete, get, head, patch, post, put};
use crate::harness::content::{Content, OCI_LAYER, image};
use crate::harness::conversation::{Case, case, check};
use crate::harness::server::TestServer;

const SUPPORT: &str = "Determining Support";
const ENDPOINTS: &str = "Endpoints";
const NAMES: &str = "Pulling manifests";
const CODES: &str = "Error Codes";

#[tokio::test]
async fn the_version_check_tells_that_this_is_a_registry() {
    let server = TestServer::start(json!({}));
    let rows = [
        case(SUPPORT, "GET /v2/ is 200", [get("/v2/").gives(200).json(json!({}))]),
        case(SUPPORT, "HEAD /v2/ is 200", [head("/v2/").gives(200).body("")]),
        case(
            SUPPORT,
            "clients that leave the slash out are understood",
            [get("/v2").gives_one_of(&[200, 301])],
        ),
        case(
            SUPPORT,
            "a registry open to everyone ignores credentials, of whatever kind",
            [
                get("/v2/").with("authorization", "Bearer token").gives(200),
                get("/v2/").basic("any", "one").gives(200),
            ],
        ),
    ];
    check(&server, rows).await;
}

/// A repository may be called as a part of a route is: routes are recognised from their end.
#[tokio::test]
async fn every_name_of_the_grammar_is_a_repository() {
    let server = TestServer::start(json!({}));
    let longest = format!("{}a", "a/".repeat(127));
    let names = [
        "a",
        "0",
        "a.b",
        "a_b",
        "a__b",
        "a-b",
        "a---b",
        "team/app",
        "a/b/c/d/e/f/g/h",
        "blobs",
        "manifests",
        "uploads",
        "tags",
        "list",
        "v2",
        "a/blobs",
        "a/blobs/uploads",
        "a/manifests",
        "a/manifests/v1",
        "a/tags/list",
        "a/tags",
        "blobs/uploads",
        "tags/list",
        &longest,
    ];
    check(&server, names.map(push_and_pull)).await;
}

fn push_and_pull(name: &str) -> Case {
    let image = image(1);
    let layer = &image.blobs[0];
    let mut steps = Vec::new();
    for blob in &image.blobs {
        steps.push(post(&format!("/v2/{name}/blobs/uploads/")).gives(202));
        steps.push(put(LOCATION).query("digest", &blob.digest()).sends(blob.bytes.clone()).gives(201));
    }
    let manifest = format!("/v2/{name}/manifests/v1");
    let push = put(&manifest).with("content-type", image.manifest.media_type.clone());
    steps.extend([
        push.sends(image.manifest.bytes.clone()).gives(201),
        get(LOCATION).gives(200).body(image.manifest.bytes.clone()),
        get(&manifest).gives(200).body(image.manifest.bytes.clone()),
        get(&format!("/v2/{name}/blobs/{}", layer.digest())).gives(200).body(layer.bytes.clone()),
        get(&format!("/v2/{name}/tags/list")).gives(200).json(json!({"name": name, "tags": ["v1"]})),
    ]);
    case(NAMES, format!("`{name}` matches the grammar of <name>"), steps)
}

#[tokio::test]
async fn other_names_are_refused_as_such() {
    let server = TestServer::start(json!({}));
    let too_long = format!("{}ab", "a/".repeat(127));
    let names = [
        "Team/app", "team/App", "a..b", "a___b", "a_/b", "-a", "a-", ".a", "a/.b", "a+b", "a@b", "a%20b",
        &too_long,
    ];
    let rows = names.iter().flat_map(|name| {
        let manifest = format!("/v2/{name}/manifests/v1");
        let uploads = format!("/v2/{name}/blobs/uploads/");
        let tags = format!("/v2/{name}/tags/list");
        [
            case(NAMES, "a pull", [get(&manifest).gives_one_of(&[400, 404]).code("NAME_INVALID")]),
            case(NAMES, "a push", [post(&uploads).gives_one_of(&[400, 404]).code("NAME_INVALID")]),
            case(NAMES, "a list", [get(&tags).gives_one_of(&[400, 404]).code("NAME_INVALID")]),
        ]
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn no_path_leads_out_of_the_tree() {
    let server = TestServer::start(json!({}));
    let paths = [
        "/v2/../../etc/passwd/manifests/v1",
        "/v2/a/../b/manifests/v1",
        "/v2/a//b/manifests/v1",
        "/v2//manifests/v1",
        "/v2/%2e%2e/%2e%2e/manifests/v1",
        "/v2/a%2f..%2fb/manifests/v1",
        "/v2/a/manifests/..",
        "/v2/a/manifests/%2e%2e%2fb",
        "/v2/a/blobs/sha256:..%2f..",
        "/v2/a/blobs/uploads/..",
        "/v2/a/blobs/uploads/%2e%2e",
        "/v2/a\\b/manifests/v1",
    ];
    let rows = paths.map(|path| case(NAMES, path, [get(path).gives_one_of(&[400, 404])]));
    check(&server, rows).await;
}

#[tokio::test]
async fn unknown_routes_are_404_and_wrong_methods_405() {
    let server = TestServer::start(json!({}));
    let blob = Content::new(OCI_LAYER, "anything").digest();
    let unknown =
        ["/v2/a", "/v2/a/b", "/v2/a/nothing", "/v2/a/tags", "/v2/a/tags/other", "/v2/a/blobs", "/v3/", "/x"];
    let unknown = unknown.map(|path| case(ENDPOINTS, path, [get(path).gives(404)]));
    let wrong = [
        (Method::PUT, format!("/v2/a/blobs/{blob}"), ["DELETE", "GET", "HEAD"].as_slice()),
        (Method::POST, format!("/v2/a/blobs/{blob}"), &["DELETE", "GET", "HEAD"]),
        (Method::POST, "/v2/a/manifests/v1".to_owned(), &["DELETE", "GET", "HEAD", "PUT"]),
        (Method::PATCH, "/v2/a/manifests/v1".to_owned(), &["DELETE", "GET", "HEAD", "PUT"]),
        (Method::PUT, "/v2/a/blobs/uploads/".to_owned(), &["POST"]),
        (Method::DELETE, "/v2/a/tags/list".to_owned(), &["GET", "HEAD"]),
        (Method::PUT, "/v2/_catalog".to_owned(), &["GET", "HEAD"]),
    ];
    let wrong = wrong.map(|(method, path, methods)| {
        let says = format!("{method} {path}");
        let refused = Request::new(method, &path).gives(405).code("UNSUPPORTED");
        case(
            ENDPOINTS,
            says,
            [refused.and(format!("Allow: {methods:?}"), move |answer| allowed(answer) == methods)],
        )
    });
    check(&server, unknown.into_iter().chain(wrong)).await;
}

/// The methods of the `Allow` header, sorted.
fn allowed(answer: &Answer) -> Vec<&str> {
    let mut methods: Vec<&str> = answer.header("allow").unwrap_or_default().split(", ").collect();
    methods.sort_unstable();
    methods
}

/// Load balancers ask for `/` to see whether anything answers.
#[tokio::test]
async fn the_root_answers_as_that_of_distribution_does() {
    let server = TestServer::start(json!({}));
    assert_eq!(server.client().send(get("/")).await.status, 200);
}

/// The promises that [`check`] looks for hold for each of these: the error's form, its code, its status.
#[tokio::test]
async fn errors_have_the_form_of_the_specification_and_head_has_no_body() {
    let server = TestServer::start(json!({}));
    let digest = Content::new(OCI_LAYER, "anything").digest();
    let blob = format!("/v2/a/blobs/{digest}");
    let manifest = format!("/v2/a/manifests/{digest}");
    let upload = "/v2/a/blobs/uploads/7f5a1d3e-6e0b-4c9a-9f0e-2d9f3a8c1b11";
    let rows = [
        case(CODES, "code-1", [get(&blob).gives(404).codes(&["BLOB_UNKNOWN"])]),
        case(CODES, "code-3", [get(upload).gives(404).codes(&["BLOB_UPLOAD_UNKNOWN"])]),
        case(CODES, "code-3", [patch(upload).sends("x").gives(404).codes(&["BLOB_UPLOAD_UNKNOWN"])]),
        case(CODES, "code-3", [delete(upload).gives(404).codes(&["BLOB_UPLOAD_UNKNOWN"])]),
        case(CODES, "code-4", [get("/v2/a/blobs/sha256:xyz").gives(400).codes(&["DIGEST_INVALID"])]),
        case(CODES, "code-6", [put("/v2/a/manifests/v1").sends("{").gives(400).codes(&["MANIFEST_INVALID"])]),
        case(CODES, "code-7", [get(&manifest).gives(404).codes(&["MANIFEST_UNKNOWN"])]),
        case(CODES, "code-8", [get("/v2/A/tags/list").gives_one_of(&[400, 404]).codes(&["NAME_INVALID"])]),
        case(CODES, "code-9", [get("/v2/a/tags/list").gives(404).codes(&["NAME_UNKNOWN"])]),
        case(CODES, "HEAD of a blob", [head(&blob).gives(404).body("")]),
        case(CODES, "HEAD of a manifest", [head(&manifest).gives(404).body("")]),
        case(CODES, "HEAD of a bad digest", [head("/v2/a/blobs/sha256:xyz").gives(400).body("")]),
    ];
    check(&server, rows).await;
}
