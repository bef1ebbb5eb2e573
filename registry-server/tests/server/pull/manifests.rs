//! Pulling manifests, by tag and by digest.

use serde_json::json;

use crate::harness::client::{get, head};
use crate::harness::content::{
    DOCKER_LIST, DOCKER_MANIFEST, Image, OCI_INDEX, OCI_MANIFEST, image, index_of,
};
use crate::harness::conversation::{case, check};
use crate::harness::server::TestServer;

const PULL: &str = "Pulling manifests";
const EXISTS: &str = "Checking if content exists in the registry";

#[tokio::test]
async fn a_manifest_is_served_exactly_as_it_was_pushed() {
    let (server, image) = server_with_image().await;
    let manifest = image.manifest;
    let digest = manifest.digest();
    let rows = ["v1", &digest].into_iter().flat_map(|reference| {
        let path = format!("/v2/pull/manifests/manifests/{reference}");
        let length = manifest.bytes.len().to_string();
        let pull = get(&path)
            .gives(200)
            .header("content-type", OCI_MANIFEST)
            .header("docker-content-digest", &digest)
            .header("content-length", &length)
            .header("etag", format!("\"{digest}\""))
            .body(manifest.bytes.clone());
        let exists = head(&path)
            .gives(200)
            .header("content-type", OCI_MANIFEST)
            .header("docker-content-digest", &digest)
            .header("content-length", &length)
            .body("");
        [
            case(PULL, "a GET MUST be 200 with the manifest and Docker-Content-Digest", [pull]),
            case(EXISTS, "a HEAD MUST be 200 with Docker-Content-Digest and Content-Length", [exists]),
        ]
    });
    check(&server, rows).await;
}

/// containerd says of every pull through a mirror where the image is from. This registry holds what it serves itself, so
/// no answer may say that it was chosen by that.
#[tokio::test]
async fn the_registry_that_a_mirrors_client_names_makes_no_difference() {
    let (server, image) = server_with_image().await;
    let name = "/v2/pull/manifests";
    let (digest, blob) = (image.manifest.digest(), image.blobs[1].digest());
    let paths = [
        format!("{name}/manifests/v1"),
        format!("{name}/manifests/{digest}"),
        format!("{name}/blobs/{blob}"),
        format!("{name}/tags/list"),
        format!("{name}/referrers/{digest}"),
    ];
    let rows = paths.iter().flat_map(|path| [get(path), head(path)]).map(|request| {
        let says = request.to_string();
        case(
            "Registry Proxying",
            says,
            [request.query("ns", "docker.io").gives(200).no_header("oci-namespace")],
        )
    });
    check(&server, rows).await;
}

/// A registry that answers 404 unless `Accept` names the type breaks curl and simple clients.
#[tokio::test]
async fn the_stored_type_is_served_whatever_is_accepted() {
    let (server, image) = server_with_image().await;
    let mut client = server.client();
    let index = index_of(OCI_INDEX, &[&image.manifest]);
    client.push_manifest("pull/manifests", "multi", &index).await;
    let accepted =
        ["*/*", "application/json", "text/html", DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX];
    let accepted = accepted.map(Some).into_iter().chain([None]);
    let rows = accepted.flat_map(|accept| {
        [("v1", &image.manifest), ("multi", &index)].map(|(tag, manifest)| {
            let request = get(&format!("/v2/pull/manifests/manifests/{tag}"));
            let request = if let Some(accept) = accept { request.with("accept", accept) } else { request };
            let answer = request.gives(200).header("content-type", &manifest.media_type);
            case("Content Negotiation", format!("Accept: {accept:?}"), [answer.body(manifest.bytes.clone())])
        })
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn a_manifest_that_is_not_in_the_repository_is_404() {
    let (server, image) = server_with_image().await;
    let never = crate::harness::content::image(99).manifest.digest();
    let here = "/v2/pull/manifests/manifests";
    let missing = [
        format!("{here}/v2"),
        format!("{here}/V1"),
        format!("{here}/{never}"),
        format!("{here}/{}", image.blobs[0].digest()),
        format!("/v2/pull/other/manifests/{}", image.manifest.digest()),
        "/v2/pull/other/manifests/v1".to_owned(),
    ];
    let rows = missing.iter().flat_map(|path| {
        [
            case(PULL, "not found in the repository MUST be 404", [get(path).gives(404)]),
            case(EXISTS, "not found in the repository MUST be 404", [head(path).gives(404).body("")]),
        ]
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn a_malformed_reference_is_refused() {
    let (server, _) = server_with_image().await;
    let too_long = "a".repeat(129);
    let references =
        ["sha256:baddigeststring", "sha256:", "md5:0123", ".v1", "-v1", "v1+2", "v1@x", &too_long];
    let rows = references.map(|reference| {
        let path = format!("/v2/pull/manifests/manifests/{reference}");
        case(PULL, reference, [get(&path).gives_one_of(&[400, 404])])
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn a_client_that_has_the_manifest_is_answered_304() {
    let (server, image) = server_with_image().await;
    let digest = image.manifest.digest();
    let etags = [format!("\"{digest}\""), format!("W/\"{digest}\""), digest.clone(), "*".to_owned()];
    let rows = etags.iter().flat_map(|etag| {
        ["v1", &digest].map(|reference| {
            let path = format!("/v2/pull/manifests/manifests/{reference}");
            let answers = [
                get(&path)
                    .with("if-none-match", etag)
                    .gives(304)
                    .header("etag", format!("\"{digest}\""))
                    .body(""),
                head(&path).with("if-none-match", etag).gives(304),
                get(&path).with("if-none-match", "\"sha256:00\"").gives(200),
            ];
            case(PULL, format!("If-None-Match: {etag}"), answers)
        })
    });
    check(&server, rows.collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_tag_that_moves_is_served_at_once_in_its_new_place() {
    let (server, first) = server_with_image().await;
    let mut client = server.client();
    let second = image(2);
    client.push_image("pull/manifests", "v1", &second).await;
    let old = format!("/v2/pull/manifests/manifests/{}", first.manifest.digest());
    let tag = "/v2/pull/manifests/manifests/v1";
    let etag = format!("\"{}\"", first.manifest.digest());
    let rows = [
        case(PULL, "the tag", [get(tag).gives(200).body(second.manifest.bytes)]),
        case(PULL, "a client that had the old one", [get(tag).with("if-none-match", etag).gives(200)]),
        case(PULL, "the old one by its digest", [get(&old).gives(200).body(first.manifest.bytes)]),
    ];
    check(&server, rows).await;
}

/// A server whose repository `pull/manifests` has an image under the tag `v1`.
async fn server_with_image() -> (TestServer, Image) {
    let server = TestServer::start(json!({}));
    let image = image(1);
    server.client().push_image("pull/manifests", "v1", &image).await;
    (server, image)
}
