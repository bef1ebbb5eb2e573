//! Pushing blobs in one piece or as a stream, and what ends an upload: its digest, its cancellation.

use bytes::Bytes;
use futures::stream;
use serde_json::json;

use crate::harness::client::{Answer, LOCATION, Request, delete, get, head, patch, post, put};
use crate::harness::content::{noise, sha256};
use crate::harness::conversation::{Step, case, check};
use crate::harness::server::TestServer;

const POST_PUT: &str = "Pushing a blob monolithically: POST then PUT";
const POST: &str = "Pushing a blob monolithically: Single POST";
const CHUNKED: &str = "Pushing a blob in chunks";
const CANCEL: &str = "Cancel a blob upload";

const BLOB: &str = "0123456789";

#[tokio::test]
async fn an_upload_starts_with_a_session() {
    let server = TestServer::start(json!({}));
    let rows = ["/v2/push/start/blobs/uploads/", "/v2/push/start/blobs/uploads"].map(|target| {
        let started = post(target)
            .gives(202)
            .header("range", "0-0")
            .header("content-length", "0")
            .some_header("docker-upload-uuid")
            .and("the session's id in the Location", location_has_the_session);
        let status = get(LOCATION)
            .gives(204)
            .header("range", "0-0")
            .and("the session's id in the Location", location_has_the_session);
        case(POST_PUT, "POST MUST be 202 with a Location that contains a unique session", [started, status])
    });
    check(&server, rows).await;
}

fn location_has_the_session(answer: &Answer) -> bool {
    let session = answer.header("docker-upload-uuid").unwrap_or("?");
    answer.location().is_some_and(|location| location.contains(session))
}

/// Each style has to take any blob: an empty one and `{}` are what artifact clients push first.
#[tokio::test]
async fn every_style_of_upload_takes_every_blob() {
    let server = TestServer::start(json!({}));
    let blobs = ["".into(), "{}".into(), BLOB.into(), noise(3, 70_000), noise(4, 3 << 20)];
    let rows = blobs.iter().enumerate().flat_map(|(number, blob)| {
        STYLES.map(|(section, style, steps)| {
            let name = format!("push/blob{number}/{style}");
            let digest = sha256(blob);
            let path = format!("/v2/{name}/blobs/{digest}");
            let (mut steps, last) = steps(&name, blob, &digest);
            let pushed = last.gives(201).header("location", &path).header("docker-content-digest", &digest);
            steps.push(pushed.header("content-length", "0"));
            steps.push(get(LOCATION).gives(200).body(blob.clone()));
            steps.push(head(&path).gives(200).header("content-length", blob.len().to_string()));
            case(section, format!("{style}: 201 with a Location that can be pulled"), steps)
        })
    });
    check(&server, rows.collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn every_style_of_upload_refuses_a_wrong_digest() {
    let server = TestServer::start(json!({}));
    let wrong = sha256(b"something else");
    let rows = STYLES.map(|(section, style, steps)| {
        let name = format!("push/wrong/{style}");
        let (mut steps, last) = steps(&name, &BLOB.into(), &wrong);
        steps.push(last.gives(400).code("DIGEST_INVALID"));
        steps.push(head(&format!("/v2/{name}/blobs/{wrong}")).gives(404));
        steps.push(head(&format!("/v2/{name}/blobs/{}", sha256(BLOB.as_bytes()))).gives(404));
        case(section, format!("{style}: the digest MUST match the blob's"), steps)
    });
    check(&server, rows).await;
}

type Style = (&'static str, &'static str, fn(&str, &Bytes, &str) -> (Vec<Step>, Request));

/// Section, name, and the exchanges that push a blob; the last one names the digest.
const STYLES: [Style; 6] = [
    (POST, "post", |name, blob, digest| {
        let request = post(&uploads(name)).query("digest", digest).sends(blob.clone());
        (vec![], request.with("content-type", "application/octet-stream"))
    }),
    (POST_PUT, "post-put", |name, blob, digest| {
        (vec![post(&uploads(name)).gives(202)], put(LOCATION).query("digest", digest).sends(blob.clone()))
    }),
    (POST_PUT, "post-put-streamed", |name, blob, digest| {
        (vec![post(&uploads(name)).gives(202)], put(LOCATION).query("digest", digest).streams(pieces(blob)))
    }),
    (CHUNKED, "patch-streamed", |name, blob, digest| {
        let streamed = patch(LOCATION).streams(pieces(blob)).gives(202).header("range", range_of(blob.len()));
        (vec![post(&uploads(name)).gives(202), streamed], put(LOCATION).query("digest", digest))
    }),
    (CHUNKED, "patch-without-range", |name, blob, digest| {
        let sent = patch(LOCATION).sends(blob.clone()).gives(202).header("range", range_of(blob.len()));
        (vec![post(&uploads(name)).gives(202), sent], put(LOCATION).query("digest", digest))
    }),
    (CHUNKED, "patch-and-last-chunk-in-put", |name, blob, digest| {
        let (first, last) = (blob.slice(..blob.len() / 2), blob.slice(blob.len() / 2..));
        let sent = patch(LOCATION).sends(first.clone()).gives(202).header("range", range_of(first.len()));
        (vec![post(&uploads(name)).gives(202), sent], put(LOCATION).query("digest", digest).sends(last))
    }),
];

fn pieces(blob: &Bytes) -> impl futures::Stream<Item = Bytes> + Send + Sync + 'static {
    let pieces: Vec<Bytes> = blob.chunks(30_000).map(Bytes::copy_from_slice).collect();
    stream::iter(pieces)
}

/// The `Range` of a session with so many bytes. That of none is the same as that of one: moby wants an end.
fn range_of(length: usize) -> String {
    format!("0-{}", length.saturating_sub(1))
}

#[tokio::test]
async fn a_session_survives_a_wrong_end() {
    let server = TestServer::start(json!({}));
    let wrong = sha256(b"something else");
    let ends = [
        ("a wrong digest", put(LOCATION).query("digest", &wrong)),
        ("no digest", put(LOCATION)),
        ("a malformed digest", put(LOCATION).query("digest", "sha256:abc")),
        ("an unsupported algorithm", put(LOCATION).query("digest", "md5:0cc175b9c0f1b6a831c399e269772661")),
    ];
    let rows = ends.map(|(says, end)| {
        let steps = [
            post(&uploads("push/survive")).gives(202),
            patch(LOCATION).sends(BLOB).gives(202).header("range", "0-9"),
            end.gives(400).code("DIGEST_INVALID").no_header("location"),
            get(LOCATION).gives(204).header("range", "0-9"),
            put(LOCATION).query("digest", &sha256(BLOB.as_bytes())).gives(201),
        ];
        case(CHUNKED, format!("{says} SHOULD be 400"), steps)
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn a_post_with_a_digest_that_cannot_be_is_400() {
    let server = TestServer::start(json!({}));
    let rows = ["sha256:abc", "notadigest", "md5:0cc175b9c0f1b6a831c399e269772661"].map(|digest| {
        let push = post(&uploads("push/invalid")).query("digest", digest).sends(BLOB);
        case(POST, digest, [push.gives(400).code("DIGEST_INVALID")])
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn the_type_of_what_is_uploaded_does_not_matter() {
    let server = TestServer::start(json!({}));
    let types =
        [None, Some("application/octet-stream"), Some("application/json"), Some("text/plain"), Some("x")];
    let rows = types.map(|media_type| {
        let sent = patch(LOCATION).sends(BLOB);
        let sent =
            if let Some(media_type) = media_type { sent.with("content-type", media_type) } else { sent };
        let finish = put(LOCATION).query("digest", &sha256(BLOB.as_bytes()));
        case(
            CHUNKED,
            format!("{media_type:?}"),
            [post(&uploads("push/types")).gives(202), sent.gives(202), finish.gives(201)],
        )
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn a_blob_can_be_pushed_again() {
    let server = TestServer::start(json!({}));
    let digest = sha256(BLOB.as_bytes());
    let push = |name: &str| {
        [post(&uploads(name)).gives(202), put(LOCATION).query("digest", &digest).sends(BLOB).gives(201)]
    };
    let there = || get(LOCATION).gives(200).body(BLOB);
    let rows = [
        case(POST_PUT, "for the first time", push("push/again").into_iter().chain([there()])),
        case(POST_PUT, "for the second time", push("push/again").into_iter().chain([there()])),
        case(POST_PUT, "to another repository", push("push/other").into_iter().chain([there()])),
    ];
    check(&server, rows).await;
}

/// As Go's clients encode it.
#[tokio::test]
async fn a_digest_may_be_percent_encoded() {
    let server = TestServer::start(json!({}));
    let encoded = sha256(BLOB.as_bytes()).replace(':', "%3A");
    let steps = [
        post(&uploads("push/encoded")).gives(202),
        put(LOCATION).query("digest", &encoded).sends(BLOB).gives(201),
        get(&format!("/v2/push/encoded/blobs/{encoded}")).gives(200).body(BLOB),
        post(&uploads("push/mounted")).query("mount", &encoded).query("from", "push%2Fencoded").gives(201),
    ];
    check(&server, [case(POST_PUT, "in the query and in the path", steps)]).await;
}

/// However large a blob is and however many are under way, the server holds a bounded part of them.
#[tokio::test]
async fn memory_does_not_grow_with_blobs() {
    let server = TestServer::start(json!({}));
    let piece = noise(1, 1 << 20);
    let blob: Vec<Bytes> = std::iter::repeat_n(piece, 100).collect();
    let digest = sha256(&blob.concat());
    let pushes = (0..4).map(|number| {
        let (mut client, blob, digest) = (server.client(), blob.clone(), digest.clone());
        tokio::spawn(async move {
            client.send(post(&uploads(&format!("push/large{number}")))).await;
            client.send(patch(LOCATION).streams(stream::iter(blob))).await;
            assert_eq!(client.send(put(LOCATION).query("digest", &digest)).await.status, 201);
            let pulled = client.send(get(LOCATION)).await;
            assert_eq!(sha256(&pulled.body), digest);
        })
    });
    for push in pushes.collect::<Vec<_>>() {
        push.await.unwrap();
    }
    let most = server.most_memory_kib();
    assert!(most < 64 * 1024, "the server took up to {most} KiB for four blobs of 100 MiB");
}

#[tokio::test]
async fn many_clients_push_the_same_blob_at_once() {
    let server = TestServer::start(json!({}));
    let blob = noise(5, 1 << 20);
    let pushes = (0..8).map(|number| {
        let (mut client, blob) = (server.client(), blob.clone());
        tokio::spawn(async move {
            let target = uploads(&format!("push/crowd{}", number % 2));
            client.send(post(&target).query("digest", &sha256(&blob)).sends(blob)).await.status
        })
    });
    for push in pushes.collect::<Vec<_>>() {
        assert_eq!(push.await.unwrap(), 201);
    }
    for name in ["push/crowd0", "push/crowd1"] {
        let answer = server.client().send(get(&format!("/v2/{name}/blobs/{}", sha256(&blob)))).await;
        assert_eq!(answer.body, blob, "{name}");
    }
}

#[tokio::test]
async fn a_cancelled_or_finished_upload_is_gone() {
    let server = TestServer::start(json!({}));
    let digest = sha256(BLOB.as_bytes());
    let ends = [
        ("a DELETE SHOULD be 204", delete(LOCATION), 204),
        ("a PUT closes the session", put(LOCATION).query("digest", &digest), 201),
    ];
    for (says, end, status) in ends {
        let mut client = server.client();
        client.send(post(&uploads("push/gone"))).await;
        client.send(patch(LOCATION).sends(BLOB)).await;
        let session = client.location().to_owned();
        assert_eq!(client.send(end).await.status, status, "{says}");
        let later = [
            get(&session),
            patch(&session).sends("x"),
            put(&session).query("digest", &digest),
            delete(&session),
        ];
        check(&server, later.map(|gone| case(CANCEL, says, [gone.gives(404).code("BLOB_UPLOAD_UNKNOWN")])))
            .await;
    }
}

#[tokio::test]
async fn a_session_belongs_to_its_repository() {
    let server = TestServer::start(json!({}));
    let mut client = server.client();
    client.send(post(&uploads("push/mine"))).await;
    let session = client.location().to_owned();
    let foreign = session.replace("push/mine", "push/yours");
    let malformed = "/v2/push/mine/blobs/uploads/not-a-session";
    let rows = [
        case(CHUNKED, "of another repository", [get(&foreign).gives(404).code("BLOB_UPLOAD_UNKNOWN")]),
        case(CHUNKED, "of another repository", [patch(&foreign).sends("x").gives(404)]),
        case(CHUNKED, "malformed", [patch(malformed).sends("x").gives(404).code("BLOB_UPLOAD_UNKNOWN")]),
        case(CHUNKED, "its own", [get(&session).gives(204)]),
    ];
    check(&server, rows).await;
}

/// Where an upload to the repository starts.
fn uploads(name: &str) -> String {
    format!("/v2/{name}/blobs/uploads/")
}
