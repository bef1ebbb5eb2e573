//! Uploads that do not go as they should: clients that vanish, lengths that lie, servers that die.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::client::{Client, LOCATION, get, head, patch, post, put};
use crate::harness::content::{noise, sha256};
use crate::harness::raw;
use crate::harness::server::{SOON, TestServer};

const UPLOADS: &str = "/v2/push/interrupted/blobs/uploads/";
const BLOB: &str = "0123456789";

#[tokio::test]
async fn another_process_finishes_what_a_killed_one_began() {
    let mut server = TestServer::start(json!({}));
    let blob = noise(5, 300_000);
    let mut client = server.client();
    client.send(post(UPLOADS)).await;
    client.send(patch(LOCATION).sends(blob.slice(..100_000))).await;
    let session = client.location().to_owned();

    server.crash_and_restart();
    let mut client = server.client();
    client.continue_at(&session);
    let status = client.send(get(LOCATION)).await;
    assert_eq!((status.status, status.header("range")), (204, Some("0-99999")), "{status}");
    let chunk = patch(LOCATION).with("content-range", "100000-199999").sends(blob.slice(100_000..200_000));
    assert_eq!(client.send(chunk).await.status, 202);

    server.crash_and_restart();
    let mut client = server.client();
    client.continue_at(&session);
    let finish = put(LOCATION).query("digest", &sha256(&blob)).sends(blob.slice(200_000..));
    assert_eq!(client.send(finish).await.status, 201);
    assert_eq!(client.send(get(LOCATION)).await.body, blob);
}

/// No process keeps an upload in its memory, so that any replica takes any chunk.
#[tokio::test]
async fn two_processes_on_one_directory_take_turns() {
    let server = TestServer::start(json!({}));
    let other = server.beside();
    let mut clients = [server.client(), other.client()];
    clients[0].send(post(UPLOADS)).await;
    let session = clients[0].location().to_owned();
    for (offset, byte) in BLOB.char_indices() {
        let chunk =
            patch(&session).with("content-range", format!("{offset}-{offset}")).sends(byte.to_string());
        let answer = clients[offset % 2].send(chunk).await;
        assert_eq!((answer.status, answer.header("range")), (202, Some(&*format!("0-{offset}"))), "{answer}");
    }
    let finish = put(&session).query("digest", &sha256(BLOB.as_bytes()));
    assert_eq!(clients[1].send(finish).await.status, 201);
    let blob = clients[1].location().to_owned();
    assert_eq!(clients[0].send(get(&blob)).await.body, BLOB);
}

#[tokio::test]
async fn a_client_that_vanishes_in_the_middle_leaves_nothing_committed() {
    let server = TestServer::start(json!({}));
    let mut client = server.client();
    let blob = noise(6, 100_000);
    let digest = sha256(&blob);
    client.send(post(UPLOADS)).await;
    let put_line = format!("PUT {}?digest={digest}", client.location());
    let post_line = format!("POST {UPLOADS}?digest={digest}");
    let length = format!("Content-Length: {}", blob.len());
    let halves: [&[u8]; 2] = [&blob[..50_000], b""];
    for (line, half) in
        [(&put_line, halves[0]), (&put_line, halves[1]), (&post_line, halves[0]), (&post_line, halves[1])]
    {
        raw::send_and_vanish(server.address(), &raw::request(line, &[&length], half));
    }
    let chunked = [b"c350\r\n".as_slice(), &blob[..50_000], b"\r\n"].concat();
    let headers = ["Transfer-Encoding: chunked"];
    raw::send_and_vanish(server.address(), &raw::request(&post_line, &headers, &chunked));
    tokio::time::sleep(Duration::from_millis(200)).await;

    assert_eq!(client.send(head(&blob_path(&digest))).await.status, 404);
    assert!(!server.root().join("docker/registry/v2/blobs/sha256").join(&digest[7..9]).exists());
    let answer = client.send(post(UPLOADS).query("digest", &digest).sends(blob.clone())).await;
    assert_eq!(answer.status, 201, "the way stays free for the whole blob: {answer}");
    assert_eq!(client.send(get(&blob_path(&digest))).await.body, blob);
}

/// What arrived before the connection broke is kept, and the session tells how much that is.
#[tokio::test]
async fn a_stream_that_was_cut_goes_on_from_where_it_broke() {
    let server = TestServer::start(json!({}));
    let mut client = server.client();
    let blob = noise(8, 100_000);
    client.send(post(UPLOADS)).await;
    let line = format!("PATCH {}", client.location());
    let chunk = [b"c350\r\n".as_slice(), &blob[..50_000], b"\r\n"].concat();
    raw::send_and_vanish(server.address(), &raw::request(&line, &["Transfer-Encoding: chunked"], &chunk));

    let stored = stored_when_quiet(&mut client).await;
    assert!(stored <= 50_000, "no more than was sent: {stored}");
    let range = format!("{stored}-{}", blob.len() - 1);
    let rest = patch(LOCATION).with("content-range", range).sends(blob.slice(stored..));
    assert_eq!(client.send(rest).await.status, 202);
    let answer = client.send(put(LOCATION).query("digest", &sha256(&blob))).await;
    assert_eq!(answer.status, 201, "{answer}");
}

/// The bytes of the session once its length has stopped to change.
async fn stored_when_quiet(client: &mut Client) -> usize {
    let deadline = Instant::now() + SOON;
    let mut before = None;
    loop {
        let status = client.send(get(LOCATION)).await;
        let end: usize = status.header("range").unwrap().strip_prefix("0-").unwrap().parse().unwrap();
        if before == Some(end) {
            return if end == 0 { 0 } else { end + 1 };
        }
        assert!(Instant::now() < deadline, "the session never came to rest");
        before = Some(end);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_content_length_that_lies_commits_nothing() {
    let server = TestServer::start(json!({}));
    let digest = sha256(BLOB.as_bytes());
    let line = format!("POST {UPLOADS}?digest={digest}");
    for length in ["Content-Length: 5", "Content-Length: 11", "Content-Length: 0"] {
        let answer = raw::send_and_read(server.address(), &raw::request(&line, &[length], BLOB.as_bytes()));
        assert!(!answer.starts_with("HTTP/1.1 2") && !answer.starts_with("HTTP/1.1 5"), "{length}: {answer}");
        assert_eq!(server.client().send(head(&blob_path(&digest))).await.status, 404, "{length}");
    }
    let answer = server.client().send(post(UPLOADS).query("digest", &digest).sends(BLOB)).await;
    assert_eq!(answer.status, 201, "the true length: {answer}");
}

/// A server that closes instead loses its answer to clients that still send, and breaks the next request of those
/// that keep the connection.
#[tokio::test]
async fn an_answer_before_the_end_of_the_body_keeps_the_connection() {
    let server = TestServer::start(json!({}));
    let mut client = server.client();
    let chunk = noise(1, 1 << 20);
    let unknown = format!("{UPLOADS}67e55044-10b1-426f-9247-bb680e5fe0c8");
    for _ in 0..20 {
        client.send(post(UPLOADS)).await;
        for (request, status) in [
            (patch(&unknown).sends(chunk.clone()), 404),
            (patch(LOCATION).with("content-range", "5-1048580").sends(chunk.clone()), 416),
            (
                patch(LOCATION).streams(futures::stream::iter([chunk.clone()])).with("content-range", "5-9"),
                416,
            ),
            (put(LOCATION).query("digest", "sha256:a").sends(chunk.clone()), 400),
            (post(UPLOADS).with("content-type", "application/json").sends(chunk.clone()), 202),
            (get(LOCATION), 204),
        ] {
            let answer = client.send(request).await;
            assert_eq!(answer.status, status, "{answer}");
        }
    }
    assert_eq!(client.connections_made(), 1);
}

/// curl asks before it sends a large body (RFC 9110, 10.1.1).
#[tokio::test]
async fn a_client_that_asks_first_is_answered_before_it_sends() {
    let server = TestServer::start(json!({}));
    let digest = sha256(BLOB.as_bytes());
    let headers = ["Expect: 100-continue", "Content-Length: 10", "Connection: close"];
    let wanted = raw::request(&format!("POST {UPLOADS}?digest={digest}"), &headers, b"");
    let unwanted = raw::request("PATCH /v2/push/interrupted/blobs/uploads/none", &headers, b"");
    for (head, first, last) in [(wanted, "HTTP/1.1 100 ", "HTTP/1.1 201 "), (unwanted, "HTTP/1.1 404 ", "")] {
        let mut socket = raw::Socket::connect(server.address());
        socket.write(&head);
        let answer = socket.read_head();
        assert!(answer.starts_with(first), "{answer}");
        if !last.is_empty() {
            socket.write(BLOB.as_bytes());
            let answer = socket.read_head();
            assert!(answer.starts_with(last), "{answer}");
        }
    }
}

/// Two writers on one session may spoil it, but never the blob, and never the server.
#[tokio::test]
async fn two_clients_on_one_session_never_commit_a_wrong_blob() {
    let server = TestServer::start(json!({}));
    let blob = noise(9, 2 << 20);
    let digest = sha256(&blob);
    let mut client = server.client();
    client.send(post(UPLOADS)).await;
    let session = client.location().to_owned();
    let writers = [0, 1].map(|_| {
        let (mut client, session, blob) = (server.client(), session.clone(), blob.clone());
        tokio::spawn(
            async move { client.try_send(patch(&session).sends(blob)).await.map(|answer| answer.status) },
        )
    });
    for writer in writers {
        assert!(writer.await.unwrap().is_ok_and(|status| status < 500), "a writer is answered");
    }
    let finished = client.send(put(&session).query("digest", &digest)).await;
    let pulled = client.send(get(&blob_path(&digest))).await;
    match finished.status {
        201 => assert_eq!(pulled.body, blob),
        400 | 404 => assert_eq!(pulled.status, 404),
        _ => panic!("{finished}"),
    }
}

fn blob_path(digest: &str) -> String {
    format!("/v2/push/interrupted/blobs/{digest}")
}
