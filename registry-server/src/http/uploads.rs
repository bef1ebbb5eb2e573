//! `/v2/<name>/blobs/uploads/` and the sessions below it (end-4, end-5, end-6, end-11, end-13, end-14).

use std::io;

use futures::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::BodyDataStream;

use super::body::Body;
use super::error::Error;
use super::headers::{CONTENT_DIGEST, UPLOAD_ID, header_value, upload_range};
use super::query::parameter;
use super::request_body::RequestBody;
use crate::app::App;
use crate::auth::Identity;
use crate::config::Right;
use crate::registry::Chunk;
use crate::types::{Algorithm, Digest, RepositoryName, UploadId};

/// `POST`: begins a session, takes a whole blob with `?digest=`, or mounts one with `?mount=`.
pub(super) async fn post(
    app: &App,
    caller: &Identity,
    name: &RepositoryName,
    parts: &Parts,
    body: RequestBody,
) -> Result<Response<Body>, Error> {
    if let Some(algorithm) = parameter(parts, "digest-algorithm") {
        // All that can be verified are taken at the end of a session, so nothing but a refusal depends on it.
        algorithm.parse::<Algorithm>()?;
    }
    if let Some(digest) = parameter(parts, "mount") {
        let digest: Digest = digest.parse()?;
        let from: Option<RepositoryName> = parameter(parts, "from").map(|from| from.parse()).transpose()?;
        // Whoever could mount what they may not pull could pull it then.
        let may_pull = match &from {
            Some(from) => app.auth.may(caller, Right::Pull, Some(from)).await,
            None => app.auth.may_everywhere(caller, Right::Pull).await,
        };
        // Where nobody says so, the client uploads.
        if may_pull == Ok(true) && app.registry.mount_blob(name, &digest, from.as_ref()).await? {
            return Ok(created(app, name, &digest));
        }
    } else if let Some(digest) = parameter(parts, "digest") {
        let digest: Digest = digest.parse()?;
        let chunk = chunk(parts, body)?;
        let id = app.registry.start_upload(name).await?;
        let finished = app.registry.finish_upload(name, id, chunk, &digest).await;
        if finished.is_err() {
            // Nobody has heard of this session, so nobody could go on with it.
            let _ = app.registry.cancel_upload(name, id).await;
        }
        finished?;
        return Ok(created(app, name, &digest));
    }
    let id = app.registry.start_upload(name).await?;
    Ok(session(app, name, id, 0, StatusCode::ACCEPTED))
}

/// `GET`: how far a session is.
pub(super) async fn get(app: &App, name: &RepositoryName, id: UploadId) -> Result<Response<Body>, Error> {
    let size = app.registry.upload_size(name, id).await?;
    Ok(session(app, name, id, size, StatusCode::NO_CONTENT))
}

/// `PATCH`: the next chunk, with or without `Content-Range`, of known or unknown length.
pub(super) async fn patch(
    app: &App,
    name: &RepositoryName,
    id: UploadId,
    parts: &Parts,
    body: RequestBody,
) -> Result<Response<Body>, Error> {
    let size = app.registry.append_upload(name, id, chunk(parts, body)?).await?;
    Ok(session(app, name, id, size, StatusCode::ACCEPTED))
}

/// `PUT`: the last chunk, which may be empty, and the digest of the whole.
pub(super) async fn put(
    app: &App,
    name: &RepositoryName,
    id: UploadId,
    parts: &Parts,
    body: RequestBody,
) -> Result<Response<Body>, Error> {
    let digest: Digest = parameter(parts, "digest").ok_or(Error::DigestMissing)?.parse()?;
    app.registry.finish_upload(name, id, chunk(parts, body)?, &digest).await?;
    Ok(created(app, name, &digest))
}

/// `DELETE`: ends a session without a blob.
pub(super) async fn delete(app: &App, name: &RepositoryName, id: UploadId) -> Result<Response<Body>, Error> {
    app.registry.cancel_upload(name, id).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn chunk(parts: &Parts, body: RequestBody) -> Result<Chunk, Error> {
    let text = |name| parts.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let range = text(CONTENT_RANGE).map(str::parse).transpose()?;
    let length = text(CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let body = BodyDataStream::new(body).map(|chunk| chunk.map_err(io::Error::other));
    Ok(Chunk { range, length, body: Box::pin(body) })
}

/// The state of a session. `Location` is an address on this server with no scheme and host, which cannot be wrong
/// behind any proxy, and holds no state, so that an old one serves as well as a new one.
fn session(app: &App, name: &RepositoryName, id: UploadId, size: u64, status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(LOCATION, header_value(&app.settings.location(&format!("v2/{name}/blobs/uploads/{id}"))));
    headers.insert(RANGE, upload_range(size));
    headers.insert(UPLOAD_ID, header_value(&id.to_string()));
    response
}

fn created(app: &App, name: &RepositoryName, digest: &Digest) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(LOCATION, header_value(&app.settings.location(&format!("v2/{name}/blobs/{digest}"))));
    headers.insert(CONTENT_DIGEST, header_value(&digest.to_string()));
    response
}
