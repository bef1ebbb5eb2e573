//! Pushing by digests of either algorithm, and tags that a push by digest asks for.

use serde_json::json;

use crate::harness::client::{LOCATION, Request, delete, get, head, post, put};
use crate::harness::content::{Content, OCI_INDEX, index_of, sha512};
use crate::harness::conversation::{case, check};
use crate::harness::server::TestServer;

const BLOBS: &str = "Pushing a blob monolithically: POST then PUT";
const PUSH: &str = "Pushing Manifests";
const TAGS: &str = "Pushing Manifests with Tags";
const HERE: &str = "/v2/push/digests/manifests";

/// An empty index, another for every name.
fn index(name: &str) -> Content {
    let mut value: serde_json::Value = serde_json::from_slice(&index_of(OCI_INDEX, &[]).bytes).unwrap();
    value["annotations"] = json!({"name": name});
    Content::json(OCI_INDEX, &value)
}

fn push(reference: &str, manifest: &Content) -> Request {
    put(&format!("{HERE}/{reference}")).with("content-type", OCI_INDEX).sends(manifest.bytes.clone())
}

#[tokio::test]
async fn a_blob_can_be_pushed_by_sha512() {
    let server = TestServer::start(json!({}));
    let digest = sha512(b"0123456789");
    let path = format!("/v2/push/digests/blobs/{digest}");
    let start = || post("/v2/push/digests/blobs/uploads/");
    let finish = || put(LOCATION).query("digest", &digest).sends("0123456789");
    let rows = [
        case(
            BLOBS,
            "digest-algorithm=sha512",
            [
                start().query("digest-algorithm", "sha512").gives(202),
                finish().gives(201).header("docker-content-digest", &digest).header("location", &path),
                get(&path).gives(200).header("docker-content-digest", &digest).body("0123456789"),
                head(&path).gives(200).header("docker-content-digest", &digest),
            ],
        ),
        case(BLOBS, "without saying so first", [start().gives(202), finish().gives(201)]),
        case(
            "Mounting a blob from another repository",
            "by sha512",
            [
                post("/v2/push/other/blobs/uploads/")
                    .query("mount", &digest)
                    .query("from", "push/digests")
                    .gives(201)
                    .header("docker-content-digest", &digest),
                get(&format!("/v2/push/other/blobs/{digest}")).gives(200).body("0123456789"),
            ],
        ),
        case(
            BLOBS,
            "an algorithm that cannot be verified",
            [start().query("digest-algorithm", "md5").gives(400).code("DIGEST_INVALID")],
        ),
        case(
            BLOBS,
            "other bytes",
            [
                start().gives(202),
                put(LOCATION).query("digest", &digest).sends("other").gives(400).code("DIGEST_INVALID"),
            ],
        ),
    ];
    check(&server, rows).await;
}

#[tokio::test]
async fn a_manifest_pushed_by_sha512_is_known_by_that() {
    let server = TestServer::start(json!({"storage": {"delete": {"enabled": true}}}));
    let manifest = index("long");
    let digest = sha512(&manifest.bytes);
    let path = format!("{HERE}/{digest}");
    let pulled = |path: &str| {
        let answer = get(path).gives(200).header("docker-content-digest", &digest);
        answer.header("content-type", OCI_INDEX).body(manifest.bytes.clone())
    };
    let rows = [
        case(
            PUSH,
            "by sha512",
            [
                push(&digest, &manifest)
                    .gives(201)
                    .header("docker-content-digest", &digest)
                    .header("location", &path),
                pulled(&path),
                get(&format!("{HERE}/{}", manifest.digest())).gives(404).code("MANIFEST_UNKNOWN"),
            ],
        ),
        case(
            TAGS,
            "a tag of a manifest by sha512",
            [
                push(&digest, &manifest).query("tag", "long").gives(201).header("oci-tag", "long"),
                pulled(&format!("{HERE}/long")),
            ],
        ),
        case(
            PUSH,
            "other bytes",
            [push(&digest, &index("other")).gives(400).code("DIGEST_INVALID"), pulled(&path)],
        ),
        case(
            "Deleting Manifests",
            "by sha512, with its tag",
            [
                delete(&path).gives(202),
                get(&path).gives(404),
                get(&format!("{HERE}/long")).gives(404),
                push("short", &manifest).gives(201).header("docker-content-digest", manifest.digest()),
            ],
        ),
    ];
    check(&server, rows).await;
}

#[tokio::test]
async fn a_push_by_digest_sets_all_the_tags_that_it_asks_for() {
    let server = TestServer::start(json!({}));
    let manifest = index("tagged");
    let digest = manifest.digest();
    let names: Vec<String> = (0..10).map(|number| format!("v{number}")).collect();
    let request = names.iter().fold(push(&digest, &manifest), |request, tag| request.query("tag", tag));
    let expected = names.clone();
    let pushed = request.gives(201).and("an OCI-Tag for each", move |answer| {
        let told: Vec<&str> =
            answer.headers.get_all("oci-tag").iter().filter_map(|value| value.to_str().ok()).collect();
        told == expected
    });
    let list = json!({"name": "push/digests", "tags": names});
    let rows = [
        case(TAGS, "at least ten", [pushed, get("/v2/push/digests/tags/list").gives(200).json(list.clone())]),
        case(
            TAGS,
            "one that is none: nothing is written",
            [
                push(&index("x").digest(), &index("x"))
                    .query("tag", "fine")
                    .query("tag", "-x")
                    .gives(400)
                    .code("TAG_INVALID"),
                get("/v2/push/digests/tags/list").gives(200).json(list),
                get(&format!("{HERE}/{}", index("x").digest())).gives(404),
            ],
        ),
        case(
            TAGS,
            "a push by tag sets that one only",
            [
                push("own", &manifest).query("tag", "more").gives(201).no_header("oci-tag"),
                get(&format!("{HERE}/more")).gives(404),
            ],
        ),
    ];
    check(&server, rows).await;
}

#[tokio::test]
async fn how_large_a_manifest_may_be_is_a_matter_of_settings() {
    let server = TestServer::start(json!({"validation": {"manifests": {"maxsize": 1000}}}));
    let (small, large) = (index(&"x".repeat(700)), index(&"x".repeat(1000)));
    let rows = [
        case(PUSH, "within the limit", [push("small", &small).gives(201)]),
        case(
            PUSH,
            "SHOULD be 413 above",
            [push("large", &large).gives(413), get(&format!("{HERE}/large")).gives(404)],
        ),
    ];
    check(&server, rows).await;
}
