//! Manifests that are made to cost much: nested without end, or listing others without number.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::json;

use crate::harness::client::{Request, get, put};
use crate::harness::content::{OCI_INDEX, OCI_MANIFEST, image, sha256};
use crate::harness::conversation::{case, check};
use crate::harness::server::TestServer;

const PUSH: &str = "Pushing Manifests";
const HERE: &str = "/v2/abuse/manifests/manifests";

/// The largest manifest that is taken.
const LIMIT: usize = 4 << 20;

fn push(media_type: &str, body: impl Into<Bytes>) -> Request {
    put(&format!("{HERE}/v1")).with("content-type", media_type).sends(body)
}

/// `start`, then as much nesting as fits, then `end`.
fn nested(start: &str, (open, inner, close): (&str, &str, &str), end: &str) -> String {
    let depth = (LIMIT - start.len() - inner.len() - end.len()) / (open.len() + close.len());
    [start, &open.repeat(depth), inner, &close.repeat(depth), end].concat()
}

#[tokio::test]
async fn nesting_without_end_is_refused_where_something_is_read() {
    let server = TestServer::start(json!({}));
    let (list, object) = (("[", "", "]"), ("{\"a\":", "1", "}"));
    let bodies = [
        nested("", list, ""),
        nested("", object, ""),
        "[".repeat(LIMIT),
        "{\"a\":".repeat(LIMIT / 5),
        nested("{\"schemaVersion\":2,\"config\":", list, "}"),
        nested("{\"schemaVersion\":2,\"config\":", object, "}"),
        nested("{\"schemaVersion\":2,\"layers\":", list, "}"),
        nested("{\"schemaVersion\":2,\"manifests\":[{\"platform\":", object, "}]}"),
        nested("{\"schemaVersion\":2,\"subject\":", object, "}"),
        format!("{{\"schemaVersion\":2,\"config\":{{\"digest\":\"{}\"}}}}", "a".repeat(LIMIT - 100)),
    ];
    let rows = bodies.into_iter().map(|body| {
        let says = body.chars().take(40).collect::<String>();
        case(PUSH, says, [push(OCI_MANIFEST, body).gives(400).code("MANIFEST_INVALID")])
    });
    check(&server, rows).await;
}

/// Fields that the server does not know are not looked at and not lost, and the manifest is as good as any.
#[tokio::test]
async fn nesting_without_end_is_kept_where_nothing_is_read() {
    let server = TestServer::start(json!({}));
    let config = &image(1).blobs[0];
    server.client().push_blob("abuse/manifests", config).await;
    let fields = [("\"unknown\":", ""), ("\"artifactType\":", ""), ("\"annotations\":{\"a\":", "}")];
    let rows = fields.into_iter().zip(1..).map(|((field, end), number)| {
        let subject = sha256(&[number]);
        let of = format!("{{\"mediaType\":\"{OCI_MANIFEST}\",\"digest\":\"{subject}\",\"size\":1}}");
        let start = format!("{{\"schemaVersion\":2,\"config\":{},\"layers\":[],", config.descriptor());
        let start = format!("{start}\"subject\":{of},{field}");
        let body = nested(&start, ("[", "", "]"), &format!("{end}}}"));
        let digest = sha256(body.as_bytes());
        let pull = get(&format!("{HERE}/{digest}")).gives(200).body(body.clone());
        let list = get(&format!("/v2/abuse/manifests/referrers/{subject}")).gives(200);
        let list = list.and("it is listed", move |answer| answer.json()["manifests"][0]["digest"] == *digest);
        case(PUSH, field, [push(OCI_MANIFEST, body).gives(201), pull, list])
    });
    check(&server, rows).await;
}

/// An index of as many manifests, none of which is there.
fn index_of_absent(count: usize) -> String {
    let mut index = String::from("{\"schemaVersion\":2,\"manifests\":[");
    for number in 0..count {
        let separator = if number == 0 { "" } else { "," };
        write!(index, "{separator}{{\"digest\":\"sha256:{number:064x}\",\"size\":1}}").unwrap();
    }
    index + "]}"
}

/// Whether its length is known before or not, what is too long is not kept.
#[tokio::test]
async fn an_index_of_a_million_entries_is_too_large() {
    let server = TestServer::start(json!({}));
    let memory = server.most_memory_kib();
    let index = Bytes::from(index_of_absent(1_000_000));
    let chunks: Vec<Bytes> = index.chunks(1 << 20).map(|chunk| index.slice_ref(chunk)).collect();
    let too_large = |request: Request| request.gives(413).code("SIZE_INVALID");
    let rows = [
        case(PUSH, "a known length", [too_large(push(OCI_INDEX, index))]),
        case(
            PUSH,
            "chunks",
            [too_large(push(OCI_INDEX, String::new()).streams(futures::stream::iter(chunks)))],
        ),
    ];
    check(&server, rows).await;
    let grown = (server.most_memory_kib() - memory) >> 10;
    assert!(grown < 64, "{grown} MiB for what is refused");
}

/// The error lists some of what is missing: all of it would be longer than the manifest.
#[tokio::test]
async fn a_million_entries_of_what_is_not_there_are_refused_in_a_few_words() {
    let server = TestServer::start(json!({"validation": {"manifests": {"maxsize": 128 << 20}}}));
    let memory = server.most_memory_kib();
    let index = index_of_absent(1_000_000);
    let size = index.len() as u64 >> 10;
    let refused = push(OCI_INDEX, index).gives(400).and("few words", |answer| {
        let codes = answer.codes();
        codes.len() == 100 && codes.iter().all(|code| code == "MANIFEST_BLOB_UNKNOWN")
    });
    check(&server, [case(PUSH, "a million entries", [refused])]).await;
    let grown = server.most_memory_kib() - memory;
    assert!(grown < 6 * size, "{grown} KiB for {size} KiB");
}

/// Each entry costs the same, however many there are, and the same one again nothing.
#[tokio::test]
async fn a_long_index_of_what_is_there_or_need_not_be_is_taken() {
    let validation = json!({"maxsize": 128 << 20, "indexes": {"platforms": "none"}});
    let server = TestServer::start(json!({"validation": {"manifests": validation}}));
    let image = image(1);
    server.client().push_image("abuse/manifests", "v1", &image).await;
    let descriptor = image.manifest.descriptor().to_string();
    let again = format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", vec![descriptor; 10_000].join(","));
    let rows = [("the same again", again), ("absent ones", index_of_absent(20_000))]
        .map(|(says, body)| case(PUSH, says, [push(OCI_INDEX, body).gives(201)]));
    check(&server, rows).await;
}
