//! `/v2/<name>/blobs/<digest>` (end-2, end-10).

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use http_body::Body as _;
use uuid::Uuid;

use super::body::Body;
use super::error::Error;
use super::headers::{header_value, insert_digest, is_not_modified};
use crate::app::App;
use crate::storage::{Content, Source};
use crate::types::{ByteRange, Digest, RepositoryName};

/// The media type of blobs: what they are is said by the manifest.
const BLOB: &str = "application/octet-stream";

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
    let Content { source, size } = blob.content;
    Ok(match *requested_ranges(&parts.headers, digest, size)? {
        [] => {
            let whole = ByteRange { start: 0, length: size };
            with_blob_headers(Body::content(source, whole), digest)
        }
        [range] => {
            let mut response = with_blob_headers(Body::content(source, range), digest);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            response.headers_mut().insert(CONTENT_RANGE, header_value(&content_range(range, size)));
            response
        }
        ref ranges => {
            // Nothing that a blob can hold, for nobody knows it before.
            let boundary = Uuid::new_v4().simple().to_string();
            let mut response = with_blob_headers(parts_of(&source, ranges, size, &boundary), digest);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let media_type = format!("multipart/byteranges; boundary={boundary}");
            response.headers_mut().insert(CONTENT_TYPE, header_value(&media_type));
            response
        }
    })
}

/// Several ranges of a blob in one body (RFC 9110 §14.6).
fn parts_of(source: &Source, ranges: &[ByteRange], size: u64, boundary: &str) -> Body {
    let parts = ranges.iter().flat_map(|range| {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: {BLOB}\r\nContent-Range: {}\r\n\r\n",
            content_range(*range, size)
        );
        [Body::from(head), Body::content(source.clone(), *range)]
    });
    Body::sequence(parts.chain([Body::from(format!("\r\n--{boundary}--\r\n"))]))
}

fn content_range(range: ByteRange, size: u64) -> String {
    format!("bytes {range}/{size}")
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
    let mut response = with_blob_headers(Body::empty(), digest);
    response.headers_mut().insert(CONTENT_LENGTH, size.into());
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

/// The ranges that are asked for; none for the whole.
fn requested_ranges(headers: &HeaderMap, digest: &Digest, size: u64) -> Result<Vec<ByteRange>, Error> {
    let Some(header) = headers.get(RANGE).and_then(|value| value.to_str().ok()) else {
        return Ok(Vec::new());
    };
    // A client that holds a part of something else wants the whole (RFC 9110 §13.1.5).
    if headers
        .get(IF_RANGE)
        .is_some_and(|condition| condition.as_bytes() != format!("\"{digest}\"").as_bytes())
    {
        return Ok(Vec::new());
    }
    ByteRange::from_header(header, size).map_err(|_| Error::Unsatisfiable { size })
}

fn not_modified(digest: &Digest) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(ETAG, header_value(&format!("\"{digest}\"")));
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

fn with_blob_headers(body: Body, digest: &Digest) -> Response<Body> {
    let length = body.size_hint().exact();
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    insert_digest(headers, digest);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(BLOB));
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // What a digest names never changes.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"));
    response
}
