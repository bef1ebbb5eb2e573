//! Pulling blobs, whole and in ranges.

use serde_json::json;

use crate::harness::client::{get, head};
use crate::harness::content::{Content, OCI_LAYER, noise};
use crate::harness::conversation::{case, check};
use crate::harness::raw;
use crate::harness::server::{TestServer, eventually};

const PULL: &str = "Pulling blobs";
const EXISTS: &str = "Checking if content exists in the registry";
/// "A registry SHOULD support the Range request header in accordance with RFC 9110 (section 14)."
const RANGES: &str = "Pulling blobs: Range";

#[tokio::test]
async fn a_blob_is_served_with_its_digest_length_and_type() {
    let (server, blob, path) = server_with_blob(2048).await;
    let digest = blob.digest();
    let rows = [
        case(
            PULL,
            "a GET of an existing blob MUST provide the expected blob, with 200 and Docker-Content-Digest",
            [get(&path)
                .gives(200)
                .header("docker-content-digest", &digest)
                .header("content-length", "2048")
                .header("content-type", "application/octet-stream")
                .header("etag", format!("\"{digest}\""))
                .header("accept-ranges", "bytes")
                .some_header("cache-control")
                .body(blob.bytes.clone())],
        ),
        case(
            EXISTS,
            "a HEAD of an existing blob MUST be 200 with Docker-Content-Digest and Content-Length",
            [head(&path)
                .gives(200)
                .header("docker-content-digest", &digest)
                .header("content-length", "2048")
                .header("accept-ranges", "bytes")
                .body("")],
        ),
        case(
            PULL,
            "content is never encoded, whatever a client would decode",
            [get(&path).with("accept-encoding", "zstd, gzip, deflate").gives(200).body(blob.bytes.clone())],
        ),
        case(
            "Registry Proxying",
            "a registry MAY choose to ignore the ns query parameter",
            [get(&path).query("ns", "docker.io").gives(200).body(blob.bytes.clone())],
        ),
        case(
            PULL,
            "a connection goes on after a HEAD",
            [head(&path).gives(200), get(&path).gives(200).body(blob.bytes.clone()), head(&path).gives(200)],
        ),
    ];
    check(&server, rows).await;
}

#[tokio::test]
async fn a_blob_that_is_not_in_the_repository_is_404() {
    let (server, blob, path) = server_with_blob(64).await;
    let missing = Content::new(OCI_LAYER, "never pushed").digest();
    let elsewhere = format!("/v2/pull/other/blobs/{}", blob.digest());
    let rows = [
        case(
            PULL,
            "missing",
            [get(&format!("/v2/pull/blobs/blobs/{missing}")).gives(404).code("BLOB_UNKNOWN")],
        ),
        case(EXISTS, "missing", [head(&format!("/v2/pull/blobs/blobs/{missing}")).gives(404)]),
        case(PULL, "in another repository only", [get(&elsewhere).gives(404)]),
        case(EXISTS, "in another repository only", [head(&elsewhere).gives(404)]),
        case(PULL, "while it is there in its own", [get(&path).gives(200)]),
    ];
    check(&server, rows).await;
}

#[tokio::test]
async fn a_malformed_digest_is_400() {
    let server = TestServer::start(json!({}));
    let hex = "0123456789abcdef".repeat(4);
    let digests = [
        "sha256:".to_owned(),
        "sha256:abc".to_owned(),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("sha256:{}", hex.replace('a', "g")),
        format!("SHA256:{hex}"),
        format!("sha256-{hex}"),
        format!("md5:{}", &hex[32..]),
        ":".to_owned(),
        "notadigest".to_owned(),
    ];
    let rows = digests.iter().flat_map(|digest| {
        let path = format!("/v2/a/blobs/{digest}");
        [
            case(PULL, digest, [get(&path).gives(400).code("DIGEST_INVALID")]),
            case(EXISTS, digest, [head(&path).gives(400)]),
        ]
    });
    check(&server, rows).await;
}

/// Clients that pull lazily ask for many small pieces of a layer at once.
#[tokio::test]
async fn several_ranges_come_in_parts() {
    let (server, blob, path) = server_with_blob(200_000).await;
    let mut client = server.client();
    for ranges in [vec![0..2, 5..7], vec![100_000..190_000, 7..8, 199_990..200_000]] {
        let asked: Vec<String> =
            ranges.iter().map(|part| format!("{}-{}", part.start, part.end - 1)).collect();
        let answer = client.send(get(&path).with("range", format!("bytes={}", asked.join(", ")))).await;
        assert_eq!(answer.status, 206, "{answer}");
        assert_eq!(answer.header("content-range"), None, "{answer}");
        let boundary = answer.header("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=");
        let mut expected = Vec::new();
        for (part, asked) in ranges.iter().zip(&asked) {
            let head = format!(
                "\r\n--{}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {asked}/200000\r\n\r\n",
                boundary.unwrap()
            );
            expected.extend_from_slice(head.as_bytes());
            expected.extend_from_slice(&blob.bytes[part.clone()]);
        }
        expected.extend_from_slice(format!("\r\n--{}--\r\n", boundary.unwrap()).as_bytes());
        assert_eq!(answer.header("content-length"), Some(expected.len().to_string().as_str()));
        assert!(answer.body == expected, "{asked:?}");
    }
    let one_left = get(&path).with("range", "bytes=0-1,300000-").gives(206);
    let none_left = get(&path).with("range", "bytes=200000-,300000-").gives(416);
    let rows = [
        case(RANGES, "one of them is in the blob", [one_left.header("content-range", "bytes 0-1/200000")]),
        case(RANGES, "none is in the blob", [none_left.header("content-range", "bytes */200000")]),
    ];
    check(&server, rows).await;
}

#[tokio::test]
async fn ranges_follow_rfc_9110() {
    let (server, blob, path) = server_with_blob(2048).await;
    let etag = format!("\"{}\"", blob.digest());
    let satisfiable = [
        ("bytes=500-1499", 500..1500),
        ("bytes=500-", 500..2048),
        ("bytes=-500", 1548..2048),
        ("bytes=2000-5000", 2000..2048),
        ("bytes=0-0", 0..1),
        ("bytes=0-", 0..2048),
        ("bytes=2047-", 2047..2048),
        ("bytes=2047-2047", 2047..2048),
        ("bytes=-1", 2047..2048),
        ("bytes=-5000", 0..2048),
        ("bytes=0-18446744073709551615", 0..2048),
    ];
    let satisfiable = satisfiable.map(|(range, part)| {
        let content_range = format!("bytes {}-{}/2048", part.start, part.end - 1);
        let answer = get(&path).with("range", range).gives(206).header("content-range", content_range);
        let length = part.len().to_string();
        case(RANGES, range, [answer.header("content-length", length).body(blob.bytes.slice(part))])
    });
    let unsatisfiable = ["bytes=500-0", "bytes=5000-10000", "bytes=2048-", "bytes=-0"].map(|range| {
        let answer = get(&path).with("range", range).gives(416).code("RANGE_INVALID");
        case(RANGES, range, [answer.header("content-range", "bytes */2048")])
    });
    let ignored = ["items=0-1", "bytes=abc", "bytes=", "bytes", "bytes=0-1,x", "bytes=0-,0-"].map(|range| {
        case(RANGES, range, [get(&path).with("range", range).gives(200).body(blob.bytes.clone())])
    });
    let conditional = [
        case(
            RANGES,
            "If-Range holds",
            [get(&path).with("range", "bytes=0-9").with("if-range", etag).gives(206)],
        ),
        case(
            RANGES,
            "a recipient MUST ignore Range when If-Range is false",
            [get(&path).with("range", "bytes=0-9").with("if-range", "\"other\"").gives(200)],
        ),
        case(
            RANGES,
            "Range MUST be ignored for methods other than GET",
            [head(&path).with("range", "bytes=0-9").gives(200).header("content-length", "2048")],
        ),
    ];
    check(&server, satisfiable.into_iter().chain(unsatisfiable).chain(ignored).chain(conditional)).await;
}

#[tokio::test]
async fn an_empty_blob_has_no_range() {
    let (server, _, path) = server_with_blob(0).await;
    let rows = [
        case(PULL, "the whole", [get(&path).gives(200).header("content-length", "0").body("")]),
        case(EXISTS, "its length", [head(&path).gives(200).header("content-length", "0")]),
        case(RANGES, "nothing in it", [get(&path).with("range", "bytes=0-0").gives(416)]),
    ];
    check(&server, rows).await;
}

#[tokio::test]
async fn a_client_that_has_the_blob_is_answered_304() {
    let (server, blob, path) = server_with_blob(2048).await;
    let digest = blob.digest();
    let known = [
        format!("\"{digest}\""),
        format!("W/\"{digest}\""),
        digest.clone(),
        "*".to_owned(),
        format!("\"other\", \"{digest}\""),
    ];
    let known = known.map(|etag| {
        let answers = [
            get(&path)
                .with("if-none-match", &etag)
                .gives(304)
                .header("etag", format!("\"{digest}\""))
                .body(""),
            head(&path).with("if-none-match", &etag).gives(304),
        ];
        case(PULL, format!("If-None-Match: {etag}"), answers)
    });
    let other = case(PULL, "another one", [get(&path).with("if-none-match", "\"sha256:00\"").gives(200)]);
    check(&server, known.into_iter().chain([other])).await;
}

/// Lazy pullers and parallel layer fetches read one blob on many connections.
#[tokio::test]
async fn a_large_blob_is_whole_on_many_connections_at_once() {
    let (server, blob, path) = server_with_blob(5 << 20).await;
    let pulls = (0..8usize).map(|number| {
        let (mut client, path, blob) = (server.client(), path.clone(), blob.clone());
        tokio::spawn(async move {
            let start = number * 600_000;
            let answer = client.send(get(&path).with("range", format!("bytes={start}-"))).await;
            assert_eq!((answer.status, answer.body), (206, blob.bytes.slice(start..)));
        })
    });
    for pull in pulls.collect::<Vec<_>>() {
        pull.await.unwrap();
    }
}

/// A parallel fetcher opens a range to the end and hangs up when it has enough.
#[tokio::test]
async fn clients_that_hang_up_in_the_middle_harm_nobody() {
    let (server, blob, path) = server_with_blob(8 << 20).await;
    for _ in 0..50 {
        let mut socket = raw::Socket::connect(server.address());
        socket.write(&raw::request(&format!("GET {path}"), &["Range: bytes=1000-"], b""));
        assert!(socket.read_head().starts_with("HTTP/1.1 206 "));
    }
    check(&server, [case(PULL, "the next client", [get(&path).gives(200).body(blob.bytes.clone())])]).await;
    eventually("their files are closed", || async { open_blobs(&server) == 0 }).await;
}

/// How many blobs the process has open.
pub(super) fn open_blobs(server: &TestServer) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(server.root()) && target.ends_with("data")).count()
}

/// A server, the one blob of its repository `pull/blobs`, and the blob's path.
async fn server_with_blob(length: usize) -> (TestServer, Content, String) {
    let server = TestServer::start(json!({}));
    let blob = Content::new(OCI_LAYER, noise(7, length));
    server.client().push_blob("pull/blobs", &blob).await;
    let path = format!("/v2/pull/blobs/blobs/{}", blob.digest());
    (server, blob, path)
}
