//! Every kind of manifest is taken and given back byte for byte, with its own type.

use std::slice::from_ref;

use serde_json::{Value, json};

use crate::harness::client::{Client, LOCATION, get, head, put};
use crate::harness::content::{
    Content, DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_EMPTY, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, image,
    index_of, manifest_of,
};
use crate::harness::conversation::{Case, case, check};
use crate::harness::server::TestServer;

const PUSH: &str = "Pushing Manifests";
const REPOSITORY: &str = "push/kinds";

#[tokio::test]
async fn every_kind_of_image_manifest_is_kept_exactly() {
    let (server, content) = server_with_content().await;
    let [config, layer, empty, ..] = &content[..] else { panic!("the blobs are there") };
    let oci = manifest_of(OCI_MANIFEST, config, from_ref(layer));
    let docker_config = typed("application/vnd.docker.container.image.v1+json", config);
    let docker_layer = typed("application/vnd.docker.image.rootfs.diff.tar.gzip", layer);
    let foreign = json!({
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": Content::new(OCI_LAYER, "kept elsewhere").digest(), "size": 14, "urls": ["https://example.org/layer"],
    });
    let embedded = json!({"mediaType": OCI_EMPTY, "digest": empty.digest(), "size": 2, "data": "e30="});
    let absent = image(77).manifest.descriptor();
    let kinds = [
        ("an OCI image", OCI_MANIFEST, oci.clone()),
        ("a Docker image", DOCKER_MANIFEST, manifest_of(DOCKER_MANIFEST, &docker_config, &[docker_layer])),
        ("the list of blobs MAY be empty", OCI_MANIFEST, manifest_of(OCI_MANIFEST, config, &[])),
        ("a type given by Content-Type alone", OCI_MANIFEST, with(&oci, "mediaType", Value::Null)),
        (
            "an artifact",
            OCI_MANIFEST,
            with(&artifact(empty, from_ref(layer)), "artifactType", json!("text/x")),
        ),
        (
            "an artifact without layers",
            OCI_MANIFEST,
            with(&artifact(empty, &[]), "artifactType", json!("text/x")),
        ),
        ("a configuration of any type", OCI_MANIFEST, manifest_of(OCI_MANIFEST, &typed("x/y", config), &[])),
        ("a subject that is missing MUST be accepted", OCI_MANIFEST, with(&oci, "subject", absent)),
        ("a layer kept elsewhere", OCI_MANIFEST, with(&oci, "layers", json!([foreign]))),
        ("embedded data", OCI_MANIFEST, with(&oci, "config", embedded)),
        (
            "fields that nobody knows",
            OCI_MANIFEST,
            with(&oci, "org.example.custom", json!({"a": [1, 2.50, null]})),
        ),
        ("annotations", OCI_MANIFEST, with(&oci, "annotations", json!({"\u{e9}": "\u{1F680}<&>"}))),
    ];
    check(
        &server,
        kinds
            .into_iter()
            .flat_map(|(says, media_type, value)| kept(says, &Content::json(media_type, &value))),
    )
    .await;
}

#[tokio::test]
async fn every_kind_of_index_is_kept_exactly() {
    let (server, content) = server_with_content().await;
    let [_, _, _, first, second] = &content[..] else { panic!("two manifests are there") };
    let index = index_of(OCI_INDEX, &[first, second]);
    server.client().push_manifest(REPOSITORY, "index", &index).await;
    let value: Value = serde_json::from_slice(&index.bytes).unwrap();
    let kinds = [
        ("an OCI index", index.clone()),
        ("a Docker list", index_of(DOCKER_LIST, &[first])),
        ("an index of indexes", index_of(OCI_INDEX, &[&index, first])),
        ("an empty index", index_of(OCI_INDEX, &[])),
        ("an artifact as index", Content::json(OCI_INDEX, &with(&value, "artifactType", json!("text/x")))),
        ("an index with a subject", Content::json(OCI_INDEX, &with(&value, "subject", first.descriptor()))),
    ];
    check(&server, kinds.iter().flat_map(|(says, manifest)| kept(says, manifest))).await;
}

/// A client that is not told so sets the tag by which referrers are found without the API.
#[tokio::test]
async fn a_subject_is_acknowledged_be_it_there_or_not() {
    let (server, content) = server_with_content().await;
    let absent = Content::new(OCI_MANIFEST, "never pushed");
    let rows = [&content[3], &absent].map(|subject| {
        let value = with(&manifest_of(OCI_MANIFEST, &content[0], &[]), "subject", subject.descriptor());
        let request = put(&format!("/v2/{REPOSITORY}/manifests/referrer")).with("content-type", OCI_MANIFEST);
        let push = request.sends(value.to_string()).gives(201).header("oci-subject", subject.digest());
        case("Pushing Manifests with Subject", "OCI-Subject MUST be the subject's digest", [push])
    });
    check(&server, rows).await;
    let plain = put(&format!("/v2/{REPOSITORY}/manifests/plain")).with("content-type", OCI_MANIFEST);
    let plain = plain.sends(content[3].bytes.clone()).gives(201).no_header("oci-subject");
    check(&server, [case("Pushing Manifests with Subject", "no subject", [plain])]).await;
}

/// Bytes that no serialiser would write: were they parsed and printed again, their digest would be another.
#[tokio::test]
async fn a_manifest_is_never_written_anew() {
    let (server, content) = server_with_content().await;
    let (config, size) = (content[0].digest(), content[0].bytes.len());
    let spellings = [
        format!(
            "\n\n{{ \"layers\" :[ ],\t\"schemaVersion\":2 , \"config\": {{\"size\":{size},\"digest\":\"{config}\",\
             \"mediaType\":\"application\\/vnd.oci.image.config.v1+json\"}}}}\r\n "
        ),
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{OCI_MANIFEST}\",\"config\":{{\"mediaType\":\"{OCI_CONFIG}\",\
             \"digest\":\"{config}\",\"size\":{size}}},\"layers\":[],\"annotations\":{{\"b\":\"\\u0041\",\"a\":\"1e2\"}},\
             \"x\":1.0e+2}}"
        ),
    ];
    let rows =
        spellings.into_iter().flat_map(|bytes| kept("unusual JSON", &Content::new(OCI_MANIFEST, bytes)));
    check(&server, rows).await;
}

/// "Client and registry implementations SHOULD expect to be able to support manifest pushes of at least 4 megabytes."
#[tokio::test]
async fn manifests_of_four_megabytes_are_taken_and_larger_ones_refused() {
    let (server, content) = server_with_content().await;
    let of_size = |size: usize| {
        let value = with(&manifest_of(OCI_MANIFEST, &content[0], &[]), "annotations", json!({"filler": ""}));
        let manifest = Content::json(OCI_MANIFEST, &value);
        let text = String::from_utf8(manifest.bytes.to_vec()).unwrap();
        let filler = format!("\"filler\": \"{}\"", "x".repeat(size - text.len()));
        Content::new(OCI_MANIFEST, text.replace("\"filler\": \"\"", &filler))
    };
    let path = format!("/v2/{REPOSITORY}/manifests/large");
    let whole =
        |manifest: &Content| put(&path).with("content-type", OCI_MANIFEST).sends(manifest.bytes.clone());
    let streamed = |manifest: &Content| {
        let pieces: Vec<bytes::Bytes> =
            manifest.bytes.chunks(1 << 16).map(bytes::Bytes::copy_from_slice).collect();
        put(&path).with("content-type", OCI_MANIFEST).streams(futures::stream::iter(pieces))
    };
    let (largest, too_large) = (of_size(4 << 20), of_size((4 << 20) + 1));
    let rows = [
        case(PUSH, "4 MiB", [whole(&largest).gives(201), get(&path).gives(200).body(largest.bytes.clone())]),
        case(PUSH, "4 MiB streamed", [streamed(&largest).gives(201)]),
        case(PUSH, "over the limit SHOULD be 413", [whole(&too_large).gives(413)]),
        case(PUSH, "over the limit SHOULD be 413, streamed", [streamed(&too_large).gives(413)]),
    ];
    check(&server, rows).await;
}

/// The rows that push the manifest by tag and by digest, and pull it back.
fn kept(says: &str, manifest: &Content) -> [Case; 2] {
    let digest = manifest.digest();
    let by_digest = format!("/v2/{REPOSITORY}/manifests/{digest}");
    ["kind", &digest].map(|reference| {
        let path = format!("/v2/{REPOSITORY}/manifests/{reference}");
        let push = put(&path).with("content-type", &manifest.media_type).sends(manifest.bytes.clone());
        let steps = [
            push.gives(201).header("docker-content-digest", &digest).header("location", &by_digest),
            get(LOCATION)
                .gives(200)
                .header("content-type", &manifest.media_type)
                .body(manifest.bytes.clone()),
            head(&path)
                .gives(200)
                .header("content-type", &manifest.media_type)
                .header("docker-content-digest", &digest),
        ];
        case(PUSH, format!("{says}: the registry MUST store the exact bytes"), steps)
    })
}

/// A server whose repository has a configuration, a layer, `{}`, and two images' manifests, in this order.
async fn server_with_content() -> (TestServer, Vec<Content>) {
    let server = TestServer::start(json!({}));
    let mut client: Client = server.client();
    let (first, second) = (image(1), image(2));
    client.push_image(REPOSITORY, "first", &first).await;
    client.push_image(REPOSITORY, "second", &second).await;
    let empty = Content::new(OCI_EMPTY, "{}");
    client.push_blob(REPOSITORY, &empty).await;
    let content =
        vec![first.blobs[0].clone(), first.blobs[1].clone(), empty, first.manifest, second.manifest];
    (server, content)
}

fn artifact(empty: &Content, layers: &[Content]) -> Value {
    manifest_of(OCI_MANIFEST, empty, layers)
}

fn typed(media_type: &str, content: &Content) -> Content {
    Content::new(media_type, content.bytes.clone())
}

/// The object with one field set, or taken away by null.
fn with(value: &Value, field: &str, to: Value) -> Value {
    let mut value = value.clone();
    let fields = value.as_object_mut().unwrap();
    if to.is_null() {
        fields.remove(field)
    } else {
        fields.insert(field.to_owned(), to)
    };
    value
}
