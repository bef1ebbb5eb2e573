//! Clients that let the server wait: they lose their connection, and nobody else anything.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::harness::client::{LOCATION, get, patch, post, put};
use crate::harness::content::{Content, OCI_LAYER, noise, sha256};
use crate::harness::raw::{self, Socket};
use crate::harness::server::{TestServer, eventually};

const UPLOADS: &str = "/v2/abuse/slow/blobs/uploads/";

fn impatient() -> TestServer {
    TestServer::start(json!({"http": {"clienttimeout": "1s"}}))
}

#[tokio::test]
async fn a_head_that_does_not_end_closes_the_connection() {
    let server = impatient();
    for begun in ["", "GET", "GET /v2/ HTTP/1.1\r\n", "GET /v2/ HTTP/1.1\r\nHost: registry.test\r\nX-A: b"] {
        let mut socket = Socket::connect(server.address());
        socket.write(begun.as_bytes());
        let answers = socket.read_to_end();
        assert!(answers.is_empty() || answers.starts_with("HTTP/1.1 408"), "{begun:?}: {answers}");
    }
}

/// A byte now and then is no head, either.
#[tokio::test]
async fn a_head_that_drips_in_closes_the_connection() {
    let server = impatient();
    let mut socket = Socket::connect(server.address());
    socket.write(b"GET /v2/ HTTP/1.1\r\nX-Drip: ");
    let mut is_open = true;
    for _ in 0..200 {
        is_open = is_open && socket.is_open_for(b"a");
        tokio::time::sleep(Duration::from_millis(if is_open { 100 } else { 0 })).await;
    }
    assert!(!is_open);
}

#[tokio::test]
async fn a_connection_that_is_not_used_again_is_closed() {
    let server = impatient();
    let mut socket = Socket::connect(server.address());
    socket.write(&raw::request("GET /v2/", &[], b""));
    assert!(socket.read_to_end().starts_with("HTTP/1.1 200"));
}

/// Who lost the connection without a word can go on at once: the half that came is kept, and nobody holds the session.
#[tokio::test]
async fn an_upload_that_stands_still_is_given_up_and_can_be_gone_on_with() {
    let server = impatient();
    let bodies = [("Content-Length: 10", "01234"), ("Transfer-Encoding: chunked", "5\r\n01234\r\n")];
    for (header, half) in bodies {
        let mut client = server.client();
        client.send(post(UPLOADS)).await;
        let session = client.location().to_owned();
        let mut socket = Socket::connect(server.address());
        socket.write(&raw::request(&format!("PATCH {session}"), &[header], half.as_bytes()));
        let answers = socket.read_to_end();
        assert!(answers.starts_with("HTTP/1.1 400") && answers.contains("BLOB_UPLOAD_INVALID"), "{answers}");
        assert!(answers.contains("nothing more of it came"), "{answers}");

        // The connection of the first request is closed by now, too.
        let mut client = server.client();
        let status = client.send(get(&session)).await;
        assert_eq!((status.status, status.header("range")), (204, Some("0-4")), "{status}");
        assert_eq!(
            client.send(patch(&session).with("content-range", "5-9").sends("56789")).await.status,
            202
        );
        let finished = client.send(put(LOCATION).query("digest", &sha256(b"0123456789"))).await;
        assert_eq!(finished.status, 201, "{finished}");
    }
}

#[tokio::test]
async fn a_manifest_that_stands_still_is_refused() {
    let server = impatient();
    let mut socket = Socket::connect(server.address());
    let line = "PUT /v2/abuse/slow/manifests/v1";
    socket.write(&raw::request(line, &["Content-Length: 100"], b"{\"schemaVersion\":"));
    let answers = socket.read_to_end();
    assert!(answers.starts_with("HTTP/1.1 400") && answers.contains("MANIFEST_INVALID"), "{answers}");
}

/// Only standing still counts, not how long the whole takes.
#[tokio::test]
async fn an_upload_that_goes_on_slowly_is_taken() {
    let server = TestServer::start(json!({"http": {"clienttimeout": "3s"}}));
    let mut client = server.client();
    client.send(post(UPLOADS)).await;
    let mut socket = Socket::connect(server.address());
    socket.write(&raw::request(&format!("PATCH {}", client.location()), &["Content-Length: 10"], b""));
    for digit in "0123456789".chars() {
        tokio::time::sleep(Duration::from_millis(400)).await;
        socket.write(digit.to_string().as_bytes());
    }
    let head = socket.read_head();
    assert!(head.starts_with("HTTP/1.1 202"), "{head}");
}

#[tokio::test]
async fn a_pull_that_nobody_takes_is_given_up() {
    let server = impatient();
    let without_clients = sockets(&server);
    let blob = Content::new(OCI_LAYER, noise(1, 32 << 20));
    server.client().push_blob("abuse/slow", &blob).await;
    let line = format!("GET /v2/abuse/slow/blobs/{}", blob.digest());
    eventually("the client that pushed is gone", || async { sockets(&server) == without_clients }).await;
    let mut pulls: Vec<Socket> = (0..3).map(|_| Socket::connect(server.address())).collect();
    for socket in &mut pulls {
        socket.write(&raw::request(&line, &[], b""));
        assert!(socket.read_head().starts_with("HTTP/1.1 200"));
    }
    eventually("the connections are closed", || async { sockets(&server) == without_clients }).await;
    assert_eq!(server.client().send(get("/v2/")).await.status, 200);
}

/// How many sockets the server has open.
fn sockets(server: &TestServer) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().filter_map(Result::ok);
    let targets = files.filter_map(|file| fs::read_link(file.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}
