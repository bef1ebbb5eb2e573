//! Stopping: what runs gets the drain time to end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::SinkExt;
use futures::channel::mpsc;
use serde_json::json;

use crate::harness::client::{Answer, Client, LOCATION, get, patch, post, put};
use crate::harness::content::{noise, sha256};
use crate::harness::server::{TestServer, eventually};

const UPLOADS: &str = "/v2/operations/shutdown/blobs/uploads/";

#[tokio::test]
async fn an_idle_server_stops_at_once() {
    let mut server = TestServer::start(json!({"http": {"draintimeout": "30s"}}));
    let mut idle = server.client();
    assert_eq!(idle.send(get("/v2/")).await.status, 200);
    server.terminate();
    let status = server.exit_within(Duration::from_secs(5));
    assert!(status.is_some_and(|status| status.success()), "an idle connection holds nothing up: {status:?}");
}

#[tokio::test]
async fn a_running_upload_ends_within_the_drain_time() {
    let mut server = TestServer::start(json!({"http": {"draintimeout": "20s"}}));
    let blob = noise(1, 200_000);
    let (mut sender, upload) = slow_upload(&server).await;
    sender.send(blob.slice(..100_000)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.terminate();
    let debug = server.debug_address();
    eventually("not ready while draining", || async {
        Client::of(debug).try_send(get("/readyz")).await.map_or(true, |answer| answer.status == 503)
    })
    .await;
    sender.send(blob.slice(100_000..)).await.unwrap();
    drop(sender);
    let (answer, session) = upload.await.unwrap();
    let answer = answer.expect("the upload is answered");
    assert_eq!((answer.status, answer.header("range")), (202, Some("0-199999")), "{answer}");
    let status = server.exit_within(Duration::from_secs(10));
    assert!(status.is_some_and(|status| status.success()), "{status:?}");

    let server = server.beside();
    let mut client = server.client();
    client.continue_at(&session);
    let answer = client.send(put(LOCATION).query("digest", &sha256(&blob))).await;
    assert_eq!(answer.status, 201, "what was acknowledged is there for the next process: {answer}");
}

#[tokio::test]
async fn an_upload_that_does_not_end_is_cut_after_the_drain_time() {
    let mut server = TestServer::start(json!({"http": {"draintimeout": "1s"}}));
    let (mut sender, upload) = slow_upload(&server).await;
    sender.send(noise(1, 1000)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = Instant::now();
    server.terminate();
    assert!(server.exit_within(Duration::from_secs(10)).is_some(), "the server does not wait for ever");
    assert!(asked.elapsed() >= Duration::from_millis(900), "but for the drain time: {:?}", asked.elapsed());
    let (answer, session) = upload.await.unwrap();
    assert!(answer.is_err(), "{answer:?}");

    let server = server.beside();
    let status = server.client().send(get(&session)).await;
    assert_eq!(status.status, 204, "the session can be resumed: {status}");
}

type Upload = tokio::task::JoinHandle<(anyhow::Result<Answer>, String)>;

/// A PATCH whose body is what is put into the channel, until that is dropped; it gives the answer and the session.
async fn slow_upload(server: &TestServer) -> (mpsc::Sender<Bytes>, Upload) {
    let mut client = server.client();
    assert_eq!(client.send(post(UPLOADS)).await.status, 202);
    let session = client.location().to_owned();
    let (sender, receiver) = mpsc::channel(0);
    let upload =
        tokio::spawn(async move { (client.try_send(patch(&session).streams(receiver)).await, session) });
    (sender, upload)
}
