//! Pushing manifests: under which reference and type, and which are refused.

use serde_json::{Value, json};

use crate::harness::client::{LOCATION, Request, get, head, put};
use crate::harness::content::{
    Content, DOCKER_MANIFEST, Image, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, image, index_of, noise,
};
use crate::harness::conversation::{case, check};
use crate::harness::server::TestServer;

const PUSH: &str = "Pushing Manifests";
const HERE: &str = "/v2/push/manifests/manifests";

#[tokio::test]
async fn a_manifest_is_pushed_under_a_tag_or_its_digest() {
    let (server, image) = server_with_blobs().await;
    let manifest = &image.manifest;
    let by_digest = format!("{HERE}/{}", manifest.digest());
    let longest = "v".repeat(128);
    let references = ["v1", "V1", "_", "1.0_rc-1", "latest", &longest, &manifest.digest()];
    let rows = references.map(|reference| {
        let steps = [
            push(reference, manifest)
                .gives(201)
                .header("location", &by_digest)
                .header("docker-content-digest", manifest.digest()),
            get(LOCATION).gives(200).body(manifest.bytes.clone()),
            get(&format!("{HERE}/{reference}")).gives(200).body(manifest.bytes.clone()),
        ];
        case(PUSH, format!("{reference}: MUST be 201 with a pullable Location"), steps)
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn a_reference_that_cannot_be_is_400() {
    let (server, image) = server_with_blobs().await;
    let manifest = &image.manifest;
    let other = crate::harness::content::image(9).manifest.digest();
    let upper = manifest.digest().to_uppercase().replace("SHA256", "sha256");
    let digests =
        ["sha256:baddigeststring", "sha256:", "md5:0cc175b9c0f1b6a831c399e269772661", &upper, &other]
            .map(|digest| case(PUSH, digest, [push(digest, manifest).gives(400).code("DIGEST_INVALID")]));
    let too_long = "v".repeat(129);
    let tags = [".v1", "-v1", "v1+2", "v1@2", "v%201", &too_long]
        .map(|tag| case(PUSH, tag, [push(tag, manifest).gives_one_of(&[400, 404])]));
    let nothing =
        case(PUSH, "nothing came of it", [get(&format!("{HERE}/{}", manifest.digest())).gives(404)]);
    check(&server, digests.into_iter().chain(tags).chain([nothing])).await;
}

#[tokio::test]
async fn the_media_type_is_told_by_header_or_field() {
    let (server, image) = server_with_blobs().await;
    let manifest = &image.manifest;
    let pull = || get(&format!("{HERE}/v1")).gives(200).header("content-type", OCI_MANIFEST);
    let right = [
        ("the registry SHOULD ignore parameters", Some(format!("{OCI_MANIFEST}; charset=utf-8"))),
        ("the field alone will do", None),
    ];
    let right = right.map(|(says, media_type)| {
        let request = push("v1", manifest).without("content-type");
        let request = if let Some(media_type) = media_type {
            request.with("content-type", media_type)
        } else {
            request
        };
        case(PUSH, says, [request.gives(201), pull()])
    });
    let wrong =
        [DOCKER_MANIFEST, OCI_INDEX, "text/plain", "application/json", "nonsense"].map(|media_type| {
            let request = push("wrong", manifest).with("content-type", media_type);
            let steps =
                [request.gives(400).code("MANIFEST_INVALID"), head(&format!("{HERE}/wrong")).gives(404)];
            case(PUSH, format!("{media_type}: Content-Type MUST be the value of mediaType"), steps)
        });
    check(&server, right.into_iter().chain(wrong)).await;
}

#[tokio::test]
async fn what_is_no_manifest_is_400() {
    let (server, image) = server_with_blobs().await;
    let config = image.blobs[0].descriptor();
    let whole = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []});
    let altered = |field: &str, value: Value| {
        let mut manifest = whole.clone();
        manifest[field] = value;
        manifest.to_string()
    };
    let bodies = [
        ("nothing", String::new()),
        ("no JSON", "this is no JSON".to_owned()),
        ("half of it", "{\"schemaVersion\":2,".to_owned()),
        ("more than one value", format!("{whole}{whole}")),
        ("an array", "[]".to_owned()),
        ("null", "null".to_owned()),
        ("an old schema", altered("schemaVersion", json!(1))),
        ("layers that are no list", altered("layers", json!({}))),
        ("a configuration that is no descriptor", altered("config", json!("sha256"))),
        (
            "a layer with a malformed digest",
            altered("layers", json!([{"mediaType": "x/y", "digest": "sha256:a", "size": 1}])),
        ),
        ("a layer with a negative size", altered("layers", json!([with_size(&image.blobs[1], json!(-1))]))),
    ];
    let rows = bodies.map(|(says, body)| {
        let request = put(&format!("{HERE}/bad")).with("content-type", OCI_MANIFEST).sends(body);
        let steps = [request.gives(400).code("MANIFEST_INVALID"), head(&format!("{HERE}/bad")).gives(404)];
        case(PUSH, says, steps)
    });
    check(&server, rows).await;
}

fn with_size(content: &Content, size: Value) -> Value {
    let mut descriptor = content.descriptor();
    descriptor["size"] = size;
    descriptor
}

#[tokio::test]
async fn what_a_manifest_refers_to_has_to_be_there() {
    let (server, image) = server_with_blobs().await;
    let absent = [1, 2, 3].map(|seed| Content::new(OCI_LAYER, noise(100 + seed, 10)));
    let never = crate::harness::content::image(9).manifest;
    let layers: Vec<Value> = [&absent[0], &image.blobs[1], &absent[1]].map(Content::descriptor).to_vec();
    let of = |config: &Content, layers: &[Value]| {
        let value = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.descriptor(), "layers": layers});
        Content::json(OCI_MANIFEST, &value)
    };
    let incomplete = [
        ("a layer", of(&image.blobs[0], &layers[..1]), vec![&absent[0]]),
        ("two of three layers", of(&image.blobs[0], &layers), vec![&absent[0], &absent[1]]),
        ("the configuration", of(&absent[2], &[]), vec![&absent[2]]),
        ("all", of(&absent[2], &[layers[0].clone(), layers[2].clone()]), absent.iter().collect()),
        ("an index's child", index_of(OCI_INDEX, &[&never]), vec![&never]),
    ];
    let rows = incomplete.map(|(says, manifest, missing)| {
        let digests: Vec<String> = missing.iter().map(|content| content.digest()).collect();
        let codes = vec!["MANIFEST_BLOB_UNKNOWN"; digests.len()];
        let refused = push("incomplete", &manifest).gives(400).codes(&codes);
        let refused = refused.and(format!("each of {digests:?} in the body"), move |answer| {
            let text = String::from_utf8_lossy(&answer.body);
            digests.iter().all(|digest| text.contains(digest))
        });
        let by_digest = format!("{HERE}/{}", manifest.digest());
        let steps = [refused, head(&format!("{HERE}/incomplete")).gives(404), head(&by_digest).gives(404)];
        case(PUSH, format!("{says} missing MUST result in one or more MANIFEST_BLOB_UNKNOWN"), steps)
    });
    check(&server, rows).await;
}

/// A blob of another repository is none of this one's: who may not read it must not pull it through a manifest.
#[tokio::test]
async fn blobs_of_another_repository_do_not_count() {
    let (server, image) = server_with_blobs().await;
    let path = "/v2/push/elsewhere/manifests/v1";
    let request = put(path).with("content-type", OCI_MANIFEST).sends(image.manifest.bytes.clone());
    let codes = ["MANIFEST_BLOB_UNKNOWN"; 3];
    check(&server, [case(PUSH, "in another repository", [request.gives(400).codes(&codes)])]).await;
}

#[tokio::test]
async fn a_tag_can_be_set_again_and_moved() {
    let (server, first) = server_with_blobs().await;
    let second = index_of(OCI_INDEX, &[]);
    let pulled = |manifest: &Content| {
        let answer = get(&format!("{HERE}/v1")).gives(200).header("content-type", &manifest.media_type);
        answer.body(manifest.bytes.clone())
    };
    let steps = [
        push("v1", &first.manifest).gives(201),
        push("v1", &first.manifest).gives(201),
        pulled(&first.manifest),
        push("v1", &second).gives(201),
        pulled(&second),
        push("v1", &first.manifest).gives(201),
        pulled(&first.manifest),
        get(&format!("{HERE}/{}", second.digest())).gives(200).body(second.bytes.clone()),
    ];
    check(&server, [case(PUSH, "the last push of a tag counts", steps)]).await;
}

fn push(reference: &str, manifest: &Content) -> Request {
    put(&format!("{HERE}/{reference}"))
        .with("content-type", &manifest.media_type)
        .sends(manifest.bytes.clone())
}

/// A server whose repository has the blobs of an image, but no manifest.
async fn server_with_blobs() -> (TestServer, Image) {
    let server = TestServer::start(json!({}));
    let image = image(1);
    let mut client = server.client();
    for blob in &image.blobs {
        client.push_blob("push/manifests", blob).await;
    }
    (server, image)
}
