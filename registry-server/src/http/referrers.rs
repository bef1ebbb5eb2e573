//! `/v2/<name>/referrers/<digest>` (end-12a, end-12b).

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response};
use serde_json::json;

use super::body::Body;
use super::error::Error;
use super::headers::{FILTERS_APPLIED, insert_next_link};
use super::query::{page_size, parameter};
use super::respond_json;
use crate::app::App;
use crate::types::{Digest, ManifestMediaType, RepositoryName};

/// How many referrers a page has at most.
const MOST_ENTRIES: usize = 1000;

/// `GET`: an index of the manifests that are about another, which need not be there.
pub(super) async fn get(
    app: &App,
    name: &RepositoryName,
    subject: &Digest,
    parts: &Parts,
) -> Result<Response<Body>, Error> {
    let limit = page_size(parts)?.map_or(MOST_ENTRIES, |n| n.min(MOST_ENTRIES));
    let (last, artifact_type) = (parameter(parts, "last"), parameter(parts, "artifactType"));
    let artifact_type = artifact_type.as_deref().filter(|text| !text.is_empty());
    let page = app.registry.list_referrers(name, subject, artifact_type, last.as_deref(), limit).await?;
    let index = ManifestMediaType::OciIndex.as_str();
    let mut response =
        respond_json(&json!({ "schemaVersion": 2, "mediaType": index, "manifests": page.entries }));
    let headers = response.headers_mut();
    // Clients compare it as it stands.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(index));
    if artifact_type.is_some() {
        headers.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let (true, Some(last)) = (page.more, page.entries.last()) {
        let path = app.settings.location(&format!("v2/{name}/referrers/{subject}"));
        let (last, limit) = (last.digest.to_string(), limit.to_string());
        let filter = artifact_type.map(|artifact_type| ("artifactType", artifact_type));
        let page = [("last", last.as_str()), ("n", &limit)];
        insert_next_link(headers, &path, filter.into_iter().chain(page));
    }
    Ok(response)
}
