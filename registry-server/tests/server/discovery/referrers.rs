//! Listing referrers.

use serde_json::{Value, json};

use super::{strings, target_of};
use crate::harness::client::{delete, get, head};
use crate::harness::content::{Content, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, index_of, manifest_of};
use crate::harness::conversation::{case, check};
use crate::harness::server::TestServer;

const REFERRERS: &str = "Listing Referrers";
const REPOSITORY: &str = "discovery/referrers";

/// A server with a subject, which is no manifest of its own, and what is about it: an SBOM, a signature and an index.
async fn server_with_referrers() -> (TestServer, Content, Vec<Content>) {
    let server = TestServer::start(json!({}));
    let mut client = server.client();
    let empty = Content::new(OCI_EMPTY, "{}");
    client.push_blob(REPOSITORY, &empty).await;
    let subject = Content::json(OCI_MANIFEST, &manifest_of(OCI_MANIFEST, &empty, &[]));
    let about = |mut value: Value, artifact_type: Option<&str>| {
        value["subject"] = subject.descriptor();
        if let Some(artifact_type) = artifact_type {
            value["artifactType"] = json!(artifact_type);
        }
        value["annotations"] = json!({"org.example.of": artifact_type.unwrap_or("nothing")});
        value
    };
    let image = manifest_of(OCI_MANIFEST, &empty, &[]);
    let index: Value = serde_json::from_slice(&index_of(OCI_INDEX, &[]).bytes).unwrap();
    let mut referrers = vec![
        Content::json(OCI_MANIFEST, &about(image.clone(), Some("application/vnd.example.sbom"))),
        Content::json(OCI_MANIFEST, &about(image, None)),
        Content::json(OCI_INDEX, &about(index.clone(), None)),
        Content::json(OCI_INDEX, &about(index, Some("application/vnd.example.sbom"))),
    ];
    referrers.sort_by_key(Content::digest);
    for referrer in &referrers {
        client.push_manifest(REPOSITORY, &referrer.digest(), referrer).await;
    }
    (server, subject, referrers)
}

/// The descriptor that the API has to list for a manifest.
fn listed(referrer: &Content) -> Value {
    let manifest: Value = serde_json::from_slice(&referrer.bytes).unwrap();
    let mut descriptor = referrer.descriptor();
    descriptor["annotations"] = manifest["annotations"].clone();
    let artifact_type = manifest.get("artifactType").or_else(|| manifest.get("config")?.get("mediaType"));
    if let Some(artifact_type) = artifact_type {
        descriptor["artifactType"] = artifact_type.clone();
    }
    descriptor
}

fn index(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})
}

#[tokio::test]
async fn all_that_is_about_a_manifest_is_listed_with_what_tells_it_apart() {
    let (server, subject, referrers) = server_with_referrers().await;
    let path = format!("/v2/{REPOSITORY}/referrers/{}", subject.digest());
    let all: Vec<Value> = referrers.iter().map(listed).collect();
    let sboms: Vec<Value> =
        all.iter().filter(|entry| entry["artifactType"] == "application/vnd.example.sbom").cloned().collect();
    assert_eq!(sboms.len(), 2);
    let unknown = format!("sha256:{}", "0".repeat(64));
    let none = get(&format!("/v2/{REPOSITORY}/referrers/{unknown}")).gives(200).json(index(&[]));
    let rows = [
        case(
            REFERRERS,
            "MUST be an image index of the descriptors, with exactly its type",
            [get(&path).gives(200).json(index(&all)).header("content-type", OCI_INDEX).no_header("link")],
        ),
        case(REFERRERS, "HEAD", [head(&path).gives(200).header("content-type", OCI_INDEX).body("")]),
        case(REFERRERS, "no filter is asked for", [get(&path).gives(200).no_header("oci-filters-applied")]),
        case(
            REFERRERS,
            "a filter that is applied MUST be told of",
            [get(&path)
                .query("artifactType", "application/vnd.example.sbom")
                .gives(200)
                .json(index(&sboms))
                .header("oci-filters-applied", "artifactType")],
        ),
        case(
            REFERRERS,
            "a filter that nothing passes",
            [get(&path).query("artifactType", "x/y").gives(200).json(index(&[]))],
        ),
        case(
            REFERRERS,
            "nothing is about it: MUST be an empty list",
            [none.header("content-type", OCI_INDEX)],
        ),
        case(
            REFERRERS,
            "an unknown repository",
            [get(&format!("/v2/discovery/none/referrers/{unknown}")).gives(200).json(index(&[]))],
        ),
        case(
            REFERRERS,
            "a malformed digest MUST be 400",
            [get(&format!("/v2/{REPOSITORY}/referrers/sha256:x")).gives(400).code("DIGEST_INVALID")],
        ),
        case(
            REFERRERS,
            "no number",
            [get(&path).query("n", "x").gives(400).code("PAGINATION_NUMBER_INVALID")],
        ),
        case(REFERRERS, "it only lists", [delete(&path).gives(405).code("UNSUPPORTED")]),
    ];
    check(&server, rows).await;
}

#[tokio::test]
async fn pages_keep_the_filter_and_together_are_all() {
    let (server, subject, referrers) = server_with_referrers().await;
    let mut client = server.client();
    let path = format!("/v2/{REPOSITORY}/referrers/{}", subject.digest());
    let digests: Vec<String> = referrers.iter().map(Content::digest).collect();
    for (query, expected) in [("n=1", 4), ("n=3", 4), ("n=1&artifactType=application%2Fvnd.example.sbom", 2)]
    {
        let mut next = Some(format!("{path}?{query}"));
        let mut found = Vec::new();
        while let Some(target) = next {
            let answer = client.send(get(&target)).await;
            let page: Vec<Value> = answer.json()["manifests"].as_array().unwrap().clone();
            assert!(!page.is_empty(), "{target}: {answer}");
            found.extend(page.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()));
            next = answer.header("link").map(|link| target_of(link).to_owned());
        }
        assert_eq!(found.len(), expected, "{query}");
        assert!(found.iter().all(|digest| digests.contains(digest)) && found.is_sorted());
    }
}

#[tokio::test]
async fn a_referrer_goes_with_its_manifest() {
    let (server, subject, referrers) = server_with_referrers().await;
    let path = format!("/v2/{REPOSITORY}/referrers/{}", subject.digest());
    let gone = format!("/v2/{REPOSITORY}/manifests/{}", referrers[0].digest());
    let rest: Vec<Value> = referrers[1..].iter().map(listed).collect();
    let steps = [delete(&gone).gives(202), get(&path).gives(200).json(index(&rest))];
    check(&server, [case(REFERRERS, "what is deleted is not listed", steps)]).await;
    let mut client = server.client();
    let tags = client.send(get(&format!("/v2/{REPOSITORY}/tags/list"))).await;
    assert!(strings(&tags.json()["tags"]).is_empty(), "no tag was needed");
}
