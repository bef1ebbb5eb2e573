//! `/v2/<name>/blobs/<digest>` (end-2, end-10).

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::body::Body;
use super::error::Error;
use super::headers::{header_value, insert_digest, is_not_modified};
use crate::app::App;
use crate::types::{ByteRange, Digest, RepositoryName};

/// `GET`, of the whole blob or a range of it (RFC 9110 §14).
pub(super) async fn get(
    app: &App,
    name: &RepositoryName,
    digest: &Digest,
    parts: &Parts,
) -> Result<Response<Body>, Error> {
    let blob = app.registry.open_blob(name, digest).await?;
    if is_not_modified(&parts.headers, digest) {
        return Ok(not_modified(digest));
    }
    let size = blob.content.size;
    let range = requested_range(&parts.headers, digest, size)?;
    let whole = ByteRange { start: 0, length: size };
    let mut response = Response::new(Body::content(blob.content.source, range.unwrap_or(whole)));
    let headers = response.headers_mut();
    insert_blob_headers(headers, digest, range.map_or(size, |range| range.length));
    if let Some(range) = range {
        headers.insert(CONTENT_RANGE, header_value(&format!("bytes {range}/{size}")));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// `HEAD`: the same headers, and no file is opened. A range is of no meaning here (RFC 9110 §14.2).
pub(super) async fn head(
    app: &App,
    name: &RepositoryName,
    digest: &Digest,
    parts: &Parts,
) -> Result<Response<Body>, Error> {
    let size = app.registry.stat_blob(name, digest).await?;
    if is_not_modified(&parts.headers, digest) {
        return Ok(not_modified(digest));
    }
    let mut response = Response::new(Body::empty());
    insert_blob_headers(response.headers_mut(), digest, size);
    Ok(response)
}

/// `DELETE`
pub(super) async fn delete(
    app: &App,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Response<Body>, Error> {
    app.registry.delete_blob(name, digest).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

fn requested_range(headers: &HeaderMap, digest: &Digest, size: u64) -> Result<Option<ByteRange>, Error> {
    let Some(header) = headers.get(RANGE).and_then(|value| value.to_str().ok()) else { return Ok(None) };
    // A client that holds a part of something else wants the whole (RFC 9110 §13.1.5).
    if headers
        .get(IF_RANGE)
        .is_some_and(|condition| condition.as_bytes() != format!("\"{digest}\"").as_bytes())
    {
        return Ok(None);
    }
    ByteRange::from_header(header, size).map_err(|_| Error::Unsatisfiable { size })
}

fn not_modified(digest: &Digest) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(ETAG, header_value(&format!("\"{digest}\"")));
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

fn insert_blob_headers(headers: &mut HeaderMap, digest: &Digest, length: u64) {
    insert_digest(headers, digest);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, header_value(&length.to_string()));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // What a digest names never changes.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"));
}
