//! Requests that no honest client sends: paths that lead elsewhere, heads without end, bodies of two lengths.

use std::path::PathBuf;

use serde_json::json;

use crate::harness::client::get;
use crate::harness::content::sha256;
use crate::harness::raw::{self, Socket};
use crate::harness::server::TestServer;
use crate::harness::tree::files_under;

/// Ways to spell a step up, a root, or an end of text.
const SPELLINGS: [&str; 17] = [
    ".",
    "..",
    "../..",
    "%2e%2e",
    "%2e%2e%2f%2e%2e",
    "..%2f..%2fconfig.yml",
    "%252e%252e",
    "%2F",
    "%2fetc%2fpasswd",
    "/etc/passwd",
    "..\\..",
    "%5c..%5c",
    "..;",
    "%00",
    "a%00b",
    "%c0%ae%c0%ae",
    "\u{ff0e}\u{ff0e}",
];

#[tokio::test]
async fn no_spelling_leads_out_of_the_tree() {
    let server = TestServer::start(json!({}));
    let before = lasting_files(&server);
    let digest = sha256(b"anything");
    let mount = format!("POST /v2/a/blobs/uploads/?mount={digest}&from={{}}");
    let tag = format!("PUT /v2/a/manifests/{digest}?tag={{}}");
    let places = [
        "GET /v2/{}/manifests/v1",
        "GET /v2/a/{}/manifests/v1",
        "GET /v2/a/{}/tags/list",
        "GET /v2/a/manifests/{}",
        "PUT /v2/a/manifests/{}",
        "DELETE /v2/a/manifests/{}",
        "GET /v2/a/blobs/{}",
        "GET /v2/a/blobs/sha256:{}",
        "DELETE /v2/a/blobs/sha256:{}",
        "GET /v2/a/referrers/sha256:{}",
        "GET /v2/a/blobs/uploads/{}",
        "PATCH /v2/a/blobs/uploads/{}",
        "PUT /v2/a/blobs/uploads/{}?digest=sha256:{}",
        "DELETE /v2/a/blobs/uploads/{}",
        "POST /v2/{}/blobs/uploads/",
        "POST /v2/a/{}/blobs/uploads/",
        "POST /v2/a/blobs/uploads/?digest={}",
        "POST /v2/a/blobs/uploads/?digest=sha256:{}",
        "POST /v2/a/blobs/uploads/?mount={}&from=a",
        "POST /v2/a/blobs/uploads/?digest-algorithm={}",
        &mount,
        &tag,
        "GET /{}/v2/",
        "GET {}",
    ];
    for line in places.iter().flat_map(|place| SPELLINGS.map(|spelling| place.replace("{}", spelling))) {
        let head = answer(&server, &raw::request(&line, &["Content-Length: 0", "Connection: close"], b""));
        assert!(head.starts_with("HTTP/1.1 4"), "{line}: {head}");
    }
    let bare = ["GET /v2/a\0b/tags/list", "GET /v2/a/manifests/v1\0", "GET /v2/a\\..\\b/tags/list"];
    for line in bare {
        let head = answer(&server, &raw::request(line, &["Connection: close"], b""));
        assert!(head.starts_with("HTTP/1.1 4"), "{line}: {head}");
    }
    assert_eq!(lasting_files(&server), before, "nothing was written");
}

/// All files but those by which the server proves to itself, now and then, that it can write.
fn lasting_files(server: &TestServer) -> Vec<PathBuf> {
    let mut files = files_under(server.directory().path());
    files.retain(|path| {
        let path = path.to_string_lossy();
        !path.contains("/windlass/staging/") && !path.contains("/windlass/probe-")
    });
    files
}

/// The places where a page ends are no paths, whatever they look like.
#[tokio::test]
async fn what_a_list_is_asked_to_go_on_after_is_only_compared() {
    let server = TestServer::start(json!({}));
    for spelling in SPELLINGS {
        for (path, statuses) in [("/v2/_catalog", ["200", "400"]), ("/v2/a/tags/list", ["404", "400"])] {
            let line = format!("GET {path}?n=1&last={spelling}");
            let head = answer(&server, &raw::request(&line, &["Connection: close"], b""));
            assert!(
                statuses.iter().any(|status| head.starts_with(&format!("HTTP/1.1 {status}"))),
                "{line}: {head}"
            );
        }
    }
}

/// The head of the one answer to a request.
fn answer(server: &TestServer, request: &[u8]) -> String {
    let mut socket = Socket::connect(server.address());
    socket.write(request);
    socket.read_head()
}

/// A proxy and a server that see the end of a body at different places let one client speak for another.
#[tokio::test]
async fn a_body_of_two_lengths_smuggles_no_request() {
    let server = TestServer::start(json!({}));
    let line = "POST /v2/a/blobs/uploads/";
    let smuggled = b"0\r\n\r\nGET /v2/_catalog HTTP/1.1\r\nHost: registry.test\r\n\r\n";
    let refused: [&[&str]; 16] = [
        &["Content-Length: 5", "Content-Length: 50"],
        &["Content-Length: 5, 50"],
        &["Content-Length: +5"],
        &["Content-Length: -5"],
        &["Content-Length: 0x5"],
        &["Content-Length: 5 0"],
        &["Content-Length: 99999999999999999999"],
        &["Content-Length : 5"],
        &["Content-Length"],
        &["Transfer-Encoding : chunked"],
        &["Transfer-Encoding: xchunked"],
        &["Transfer-Encoding: chunked, identity"],
        &["Transfer-Encoding: identity"],
        &["Transfer-Encoding: chunked", "Transfer-Encoding: gzip"],
        &["Transfer-Encoding:\r\n chunked"],
        &["Content-Length: 5\r\n Content-Length: 50"],
    ];
    for headers in refused {
        let mut socket = Socket::connect(server.address());
        socket.write(&raw::request(line, headers, smuggled));
        let answers = socket.read_to_end();
        assert!(answers.starts_with("HTTP/1.1 400"), "{headers:?}: {answers}");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{headers:?}: {answers}");
    }
    // Here the transfer coding counts, and the connection ends with the answer (RFC 9112, 6.1).
    let closed: [&[&str]; 2] = [
        &["Content-Length: 5", "Transfer-Encoding: chunked"],
        &["Transfer-Encoding: chunked", "Content-Length: 5"],
    ];
    for headers in closed {
        let mut socket = Socket::connect(server.address());
        socket.write(&raw::request(line, headers, smuggled));
        let answers = socket.read_to_end();
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{headers:?}: {answers}");
    }
}

#[tokio::test]
async fn chunks_that_are_none_end_the_upload_and_the_connection() {
    let server = TestServer::start(json!({}));
    let digest = sha256(b"0123456789");
    let line = format!("POST /v2/a/blobs/uploads/?digest={digest}");
    for body in [
        "ffffffffffffffffff\r\n",
        "-1\r\n",
        "g\r\n",
        "5\r\n0123456789\r\n",
        "0x5\r\n01234\r\n",
        "5;\n01234\r\n0\r\n\r\n",
    ] {
        let mut socket = Socket::connect(server.address());
        socket.write(&raw::request(&line, &["Transfer-Encoding: chunked"], body.as_bytes()));
        let answers = socket.read_to_end();
        assert!(answers.is_empty() || answers.starts_with("HTTP/1.1 400"), "{body:?}: {answers}");
    }
    let blob = format!("/v2/a/blobs/{digest}");
    assert_eq!(server.client().send(get(&blob)).await.status, 404);
}

#[tokio::test]
async fn what_is_too_long_is_refused_as_such() {
    let server = TestServer::start(json!({}));
    let path = format!("GET /v2/{}/manifests/v1", "a/".repeat(40_000));
    let query = format!("GET /v2/_catalog?last={}", "a".repeat(80_000));
    for line in [path, query] {
        let head = answer(&server, &raw::request(&line, &[], b""));
        assert!(head.starts_with("HTTP/1.1 414"), "{head}");
    }
    let header = format!("X-Long: {}", "a".repeat(1 << 20));
    let mut socket = Socket::connect(server.address());
    socket.is_open_for(&raw::request("GET /v2/", &[&header], b""));
    let answers = socket.read_to_end();
    // The answer is lost to a client that still sends.
    assert!(answers.is_empty() || answers.starts_with("HTTP/1.1 431"), "{answers}");

    let name = format!("/v2/{}/tags/list", "a".repeat(30_000));
    let refused = server.client().send(get(&name)).await;
    assert_eq!((refused.status, refused.codes()), (400, vec!["NAME_INVALID".to_owned()]));
}
