//! Pushing and pulling images by plain requests, where a test is not about a client.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::http::{Answer, Client};

/// Media type of the manifests that [`push`] writes.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes an image of one layer, which has the content `layer`, and returns the digest of its manifest.
///
/// # Errors
/// When a request fails or is refused.
pub async fn push(
    client: &Client,
    repository: &str,
    tag: &str,
    layer: impl Into<Bytes>,
) -> anyhow::Result<String> {
    let layer = layer.into();
    let config = Bytes::from_static(b"{}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    push_blob(client, repository, config).await?;
    push_blob(client, repository, layer).await?;
    let body = Bytes::from(manifest.to_string());
    let digest = digest(&body);
    let request = Request::put(format!("/v2/{repository}/manifests/{tag}"))
        .header(header::CONTENT_TYPE, MANIFEST)
        .body(Full::new(body))?;
    client.send(request).await?.expect(StatusCode::CREATED)?;
    Ok(digest)
}

fn descriptor(media_type: &str, content: &Bytes) -> Value {
    json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
}

/// Pushes a blob in two requests.
///
/// # Errors
/// When one fails or is refused.
pub async fn push_blob(client: &Client, repository: &str, content: Bytes) -> anyhow::Result<()> {
    let session = start_upload(client, repository).await?;
    let digest = digest(&content);
    finish_upload(client, &session, content, &digest).await?;
    Ok(())
}

/// Opens an upload and returns its location.
///
/// # Errors
/// When the request fails or is refused.
pub async fn start_upload(client: &Client, repository: &str) -> anyhow::Result<String> {
    let request = Request::post(format!("/v2/{repository}/blobs/uploads/")).body(Full::new(Bytes::new()))?;
    location(&client.send(request).await?.expect(StatusCode::ACCEPTED)?)
}

/// Ends an upload with its last bytes.
///
/// # Errors
/// When the request fails or is refused.
pub async fn finish_upload(
    client: &Client,
    session: &str,
    rest: Bytes,
    digest: &str,
) -> anyhow::Result<Answer> {
    let separator = if session.contains('?') { '&' } else { '?' };
    let request = Request::put(format!("{session}{separator}digest={digest}")).body(Full::new(rest))?;
    client.send(request).await?.expect(StatusCode::CREATED)
}

/// The path of an answer's Location, which may have a scheme and a host.
///
/// # Errors
/// When there is none.
pub fn location(answer: &Answer) -> anyhow::Result<String> {
    let uri: http::Uri = answer.header("location").parse()?;
    Ok(uri.path_and_query().context("an answer without a location")?.to_string())
}

/// Pulls an image that [`push`] has written and compares every byte with its digest.
///
/// # Errors
/// When a request fails or is refused, or a digest does not fit.
pub async fn pull(client: &Client, repository: &str, reference: &str) -> anyhow::Result<String> {
    let answer = client.get(&format!("/v2/{repository}/manifests/{reference}")).await?;
    let body = answer.expect(StatusCode::OK)?.body;
    let manifest: Value = serde_json::from_slice(&body)?;
    let layers = manifest["layers"].as_array().into_iter().flatten();
    for blob in layers.chain([&manifest["config"]]) {
        let wanted = blob["digest"].as_str().unwrap_or_default();
        let answer = client.get(&format!("/v2/{repository}/blobs/{wanted}")).await?;
        let content = answer.expect(StatusCode::OK)?.body;
        ensure!(digest(&content) == wanted, "the blob {wanted} has other content");
    }
    Ok(digest(&body))
}

/// The digest of `content`.
#[must_use]
pub fn digest(content: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(content) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
