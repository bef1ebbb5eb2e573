//! `/v2/<name>/manifests/<reference>` (end-3, end-7, end-9).

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::body::Body;
use super::error::Error;
use super::headers::{CONTENT_DIGEST, SUBJECT, TAG, header_value, insert_digest, is_not_modified};
use super::query::parameters;
use super::request_body::RequestBody;
use super::route::RouteError;
use crate::app::App;
use crate::types::{Reference, RepositoryName, Tag};

/// `GET` and `HEAD`. Whatever `Accept` says, the answer is the manifest as it was pushed: no other form of it
/// would have its digest.
pub(super) async fn get(
    app: &App,
    name: &RepositoryName,
    reference: &Reference,
    parts: &Parts,
) -> Result<Response<Body>, Error> {
    let manifest = match (&parts.method, reference) {
        (&Method::HEAD, Reference::Digest(digest)) => app.registry.check_manifest(name, digest).await?,
        _ => app.registry.get_manifest(name, reference).await?,
    };
    if is_pull(&parts.method, reference) && !app.pulls.note(name, reference) {
        app.metrics.pulls_unrecorded(1);
    }
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    insert_digest(headers, &manifest.digest);
    headers.insert(
        CACHE_CONTROL,
        match reference {
            Reference::Digest(_) => HeaderValue::from_static("max-age=31536000"),
            // A tag moves: caches may keep the manifest but must ask each time.
            Reference::Tag(_) => HeaderValue::from_static("no-cache"),
        },
    );
    if is_not_modified(&parts.headers, &manifest.digest) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(manifest.media_type.as_str()));
    headers.insert(CONTENT_LENGTH, header_value(&manifest.bytes.len().to_string()));
    if parts.method != Method::HEAD {
        *response.body_mut() = Body::from(manifest.bytes);
    }
    Ok(response)
}

/// Whether the manifest is asked for in order to use it. Clients ask where a tag leads by HEAD and may have the
/// manifest already; HEAD by digest is how they look before a push whether it is there.
fn is_pull(method: &Method, reference: &Reference) -> bool {
    *method == Method::GET || matches!(reference, Reference::Tag(_))
}

/// `PUT`
pub(super) async fn put(
    app: &App,
    name: &RepositoryName,
    reference: &Reference,
    parts: &Parts,
    body: RequestBody,
) -> Result<Response<Body>, Error> {
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let tags = match reference {
        Reference::Digest(_) => tags(parts)?,
        Reference::Tag(_) => Vec::new(),
    };
    let bytes = collect(body, app.settings.max_manifest_size).await?;
    let pushed = app.registry.put_manifest(name, reference, &tags, content_type, bytes).await?;
    let digest = pushed.digest;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    let location = app.settings.location(&format!("v2/{name}/manifests/{digest}"));
    headers.insert(LOCATION, header_value(&location));
    headers.insert(CONTENT_DIGEST, header_value(&digest.to_string()));
    if let Some(subject) = pushed.subject {
        headers.insert(SUBJECT, header_value(&subject.to_string()));
    }
    for tag in tags {
        headers.append(TAG, header_value(tag.as_str()));
    }
    Ok(response)
}

/// The tags that a push by digest asks for (end-7b).
fn tags(parts: &Parts) -> Result<Vec<Tag>, Error> {
    let tags = parameters(parts, "tag").map(|tag| tag.parse());
    tags.collect::<Result<_, _>>().map_err(|error| Error::Route(RouteError::Reference(error)))
}

/// `DELETE`, of a tag alone or of a manifest with all its tags.
pub(super) async fn delete(
    app: &App,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<Response<Body>, Error> {
    match reference {
        Reference::Tag(tag) => app.registry.delete_tag(name, tag).await?,
        Reference::Digest(digest) => app.registry.delete_manifest(name, digest).await?,
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// The whole body, which is refused as soon as it is known to be too long.
async fn collect(body: RequestBody, limit: usize) -> Result<Bytes, Error> {
    if http_body::Body::size_hint(&body).lower() > limit as u64 {
        return Err(Error::ManifestTooLarge { limit });
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Error::ManifestTooLarge { limit }),
        Err(error) => Err(Error::Body(error)),
    }
}
