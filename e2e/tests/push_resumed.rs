//! A push outlives the server that it began with.

use std::convert::Infallible;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use e2e::case::{Outcome, with_namespace};
use e2e::http::Client;
use e2e::namespace::Namespace;
use e2e::{forward, oci, registry, wait};
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use operator::names;

const REPOSITORY: &str = "team/big";
const MEBIBYTE: usize = 1 << 20;

/// Bytes without a pattern that a layer could be cut at unnoticed.
fn content() -> Bytes {
    let mut state = 1_u32;
    let next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(8 * MEBIBYTE).collect()
}

async fn append(client: &Client, session: &str, chunk: Bytes) -> anyhow::Result<String> {
    let request =
        Request::patch(session).header("content-type", "application/octet-stream").body(Full::new(chunk))?;
    oci::location(&client.send(request).await?.expect(StatusCode::ACCEPTED)?)
}

/// Sends `chunk` and then keeps the request open, until it breaks.
async fn append_without_end(client: &Client, session: &str, chunk: Bytes) -> anyhow::Result<()> {
    let (mut sender, receiver) = mpsc::channel::<Bytes>(1);
    let body = StreamBody::new(receiver.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))));
    let request = Request::patch(session).header("content-type", "application/octet-stream").body(body)?;
    sender.send(chunk).await?;
    // The sender lives as long as the request, so that its body never ends.
    let answer = client.send(request).await;
    drop(sender);
    answer.map(|_| ())
}

async fn kill_server(namespace: &Namespace) -> anyhow::Result<()> {
    let pods = namespace.api::<Pod>();
    let selector = ListParams::default().labels(&names::selector_text(registry::NAME));
    let pod = pods.list(&selector).await?.items.into_iter().find(forward::is_ready).context("no server")?;
    pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(1)).await?;
    wait::gone(&pods, &pod.name_any()).await
}

/// How many bytes the server has, by its own words.
async fn received(client: &Client, session: &str) -> anyhow::Result<usize> {
    let answer = client.get(session).await?.expect(StatusCode::NO_CONTENT)?;
    let (_, last) = answer.header("range").split_once('-').context("no range")?;
    Ok(last.parse::<usize>()? + 1)
}

#[tokio::test]
async fn a_push_goes_on_where_it_was_when_the_server_was_killed() -> Outcome {
    with_namespace("resumed", async |namespace| {
        registry::quick(namespace).await?;
        let (_forward, client) = registry::reach_as_user(namespace).await?;
        let content = content();
        let session = oci::start_upload(&client, REPOSITORY).await?;
        let session = append(&client, &session, content.slice(..MEBIBYTE)).await?;

        let second = content.slice(MEBIBYTE..3 * MEBIBYTE);
        let (cut, killed) =
            tokio::join!(append_without_end(&client, &session, second), kill_server(namespace));
        killed?;
        ensure!(cut.is_err(), "the request outlived its server");

        let received = wait::eventually("the upload", async || received(&client, &session).await).await?;
        ensure!((MEBIBYTE..=3 * MEBIBYTE).contains(&received), "{received} bytes are left");
        let digest = oci::digest(&content);
        oci::finish_upload(&client, &session, content.slice(received..), &digest).await?;
        let blob = client.get(&format!("/v2/{REPOSITORY}/blobs/{digest}")).await?.expect(StatusCode::OK)?;
        ensure!(oci::digest(&blob.body) == digest, "the blob has other content");
        Ok(())
    })
    .await
}
