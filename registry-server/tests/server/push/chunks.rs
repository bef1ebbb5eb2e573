//! Pushing a blob in chunks with `Content-Range`: their order, and what a client does after a mistake.

use serde_json::json;

use crate::harness::client::{LOCATION, Request, get, patch, post, put};
use crate::harness::content::{noise, sha256};
use crate::harness::conversation::{Step, case, check};
use crate::harness::server::TestServer;

const CHUNKED: &str = "Pushing a blob in chunks";
const UPLOADS: &str = "/v2/push/chunks/blobs/uploads/";

/// What all chunks of these tests are pieces of.
const BLOB: &str = "0123456789";

#[tokio::test]
async fn chunks_in_order_make_the_blob() {
    let server = TestServer::start(json!({}));
    let two_patches = [
        start(),
        chunk("0-4", "01234").gives(202).header("range", "0-4").some_header("location"),
        chunk("5-9", "56789").gives(202).header("range", "0-9").some_header("docker-upload-uuid"),
        finish().gives(201),
        get(LOCATION).gives(200).body(BLOB),
    ];
    let last_in_put = [
        start(),
        chunk("0-4", "01234").gives(202).header("range", "0-4"),
        finish().with("content-range", "5-9").sends("56789").gives(201),
        get(LOCATION).gives(200).body(BLOB),
    ];
    let only_in_put = [
        start(),
        finish().with("content-range", "0-9").sends(BLOB).gives(201),
        get(LOCATION).gives(200).body(BLOB),
    ];
    let single_bytes = BLOB.char_indices().map(|(offset, byte)| {
        chunk(&format!("{offset}-{offset}"), &byte.to_string())
            .gives(202)
            .header("range", format!("0-{offset}"))
    });
    let rows = [
        case(CHUNKED, "each chunk MUST be 202 with Location and Range", two_patches),
        case(CHUNKED, "the final chunk MAY be uploaded in the closing PUT", last_in_put),
        case(CHUNKED, "also when it is the only one", only_in_put),
        case(
            CHUNKED,
            "chunks of one byte",
            [start()].into_iter().chain(single_bytes).chain([finish().gives(201)]),
        ),
    ];
    check(&server, rows).await;
}

#[tokio::test]
async fn a_chunk_out_of_order_is_416_and_the_session_goes_on() {
    let server = TestServer::start(json!({}));
    let wrong = [
        ("a gap", chunk("7-9", "789")),
        ("the same chunk again", chunk("0-4", "01234")),
        ("an overlap", chunk("3-9", "3456789")),
        ("far away", chunk("1000000000000-1000000000002", "789")),
        ("a gap before the last chunk", finish().with("content-range", "7-9").sends("789")),
        ("an overlap of the last chunk", finish().with("content-range", "0-4").sends("01234")),
    ];
    let rows = wrong.map(|(says, request)| {
        let steps = [
            start(),
            chunk("0-4", "01234").gives(202).header("range", "0-4"),
            request.gives(416).code("RANGE_INVALID"),
            get(LOCATION).gives(204).header("range", "0-4").some_header("docker-upload-uuid"),
            chunk("5-9", "56789").gives(202).header("range", "0-9"),
            finish().gives(201),
            get(LOCATION).gives(200).body(BLOB),
        ];
        case(CHUNKED, format!("{says} MUST be 416; a GET retrieves the valid offset"), steps)
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn the_first_chunk_begins_with_zero() {
    let server = TestServer::start(json!({}));
    let rows = [chunk("5-9", "56789"), finish().with("content-range", "5-9").sends("56789")].map(|request| {
        let steps = [
            start(),
            request.gives(416),
            get(LOCATION).gives(204).header("range", "0-0"),
            chunk("0-9", BLOB).gives(202).header("range", "0-9"),
            finish().gives(201),
        ];
        case(CHUNKED, "the first chunk's range MUST begin with 0", steps)
    });
    check(&server, rows).await;
}

/// Some clients send the form of RFC 9110, which distribution answers with 500.
#[tokio::test]
async fn the_content_range_of_rfc_9110_is_understood_too() {
    let server = TestServer::start(json!({}));
    let forms = [
        ("bytes 0-4", "bytes 5-9"),
        ("0-4/10", "5-9/10"),
        ("bytes 0-4/10", "bytes 5-9/10"),
        ("bytes 0-4/*", "5-9/*"),
    ];
    let rows = forms.map(|(first, second)| {
        let steps = [
            start(),
            chunk(first, "01234").gives(202).header("range", "0-4"),
            chunk(first, "01234").gives(416),
            chunk(second, "56789").gives(202).header("range", "0-9"),
            finish().gives(201),
        ];
        case(CHUNKED, first, steps)
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn a_content_range_that_cannot_be_is_refused() {
    let server = TestServer::start(json!({}));
    let ranges = [
        "abc",
        "5-",
        "-5",
        "9-0",
        "0",
        "0-9-10",
        "items 0-9",
        "0-99999999999999999999999",
        "0-3",
        "0-20",
        "",
    ];
    let rows = ranges.map(|range| {
        let steps = [
            start(),
            chunk(range, BLOB).gives_one_of(&[400, 416]),
            get(LOCATION).gives(204).header("range", "0-0"),
            finish().sends(BLOB).gives(201),
        ];
        case(CHUNKED, format!("Content-Range: {range:?} for ten bytes"), steps)
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn an_old_location_is_as_good_as_the_newest() {
    let server = TestServer::start(json!({}));
    let mut client = server.client();
    client.send(post(UPLOADS)).await;
    let first = client.location().to_owned();
    for (range, bytes) in [("0-4", "01234"), ("5-9", "56789")] {
        let answer = client.send(patch(&first).with("content-range", range).sends(bytes)).await;
        assert_eq!(answer.status, 202, "{answer}");
    }
    let answer = client.send(put(&first).query("digest", &sha256(BLOB.as_bytes()))).await;
    assert_eq!(answer.status, 201, "{answer}");
}

#[tokio::test]
async fn a_chunk_may_be_empty() {
    let server = TestServer::start(json!({}));
    let steps = [
        start(),
        patch(LOCATION).gives(202).header("range", "0-0"),
        chunk("0-9", BLOB).gives(202).header("range", "0-9"),
        patch(LOCATION).gives(202).header("range", "0-9"),
        finish().gives(201),
    ];
    check(&server, [case(CHUNKED, "nothing is a chunk too", steps)]).await;
}

#[tokio::test]
async fn many_chunks_of_a_large_blob_are_hashed_across_requests() {
    let server = TestServer::start(json!({}));
    let blob = noise(11, 6 << 20);
    let mut client = server.client();
    client.send(post(UPLOADS)).await;
    for start in (0..blob.len()).step_by(700_001) {
        let end = (start + 700_001).min(blob.len());
        let range = format!("{start}-{}", end - 1);
        let answer =
            client.send(patch(LOCATION).with("content-range", range).sends(blob.slice(start..end))).await;
        assert_eq!(answer.status, 202, "{answer}");
    }
    let answer = client.send(put(LOCATION).query("digest", &sha256(&blob))).await;
    assert_eq!(answer.status, 201, "{answer}");
    assert_eq!(client.send(get(LOCATION)).await.body, blob);
}

fn start() -> Step {
    post(UPLOADS).gives(202)
}

fn chunk(range: &str, bytes: &str) -> Request {
    patch(LOCATION).with("content-range", range).sends(bytes.to_owned())
}

/// Closes the session of [`BLOB`].
fn finish() -> Request {
    put(LOCATION).query("digest", &sha256(BLOB.as_bytes()))
}
