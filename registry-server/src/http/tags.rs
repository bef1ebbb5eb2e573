//! `/v2/<name>/tags/list` (end-8).

use http::Response;
use http::request::Parts;
use serde_json::json;

use super::body::Body;
use super::error::Error;
use super::headers::insert_next_link;
use super::query::{page_size, parameter};
use super::respond_json;
use crate::app::App;
use crate::types::{RepositoryName, Tag};

/// `GET`: all tags after `last`, or at most `n` of them.
pub(super) async fn get(app: &App, name: &RepositoryName, parts: &Parts) -> Result<Response<Body>, Error> {
    let limit = page_size(parts)?.map(|n| n.min(app.settings.max_tags));
    let last = parameter(parts, "last");
    let page = app.registry.list_tags(name, last.as_deref(), limit).await?;
    let tags: Vec<&str> = page.entries.iter().map(Tag::as_str).collect();
    let mut response = respond_json(&json!({ "name": name.as_str(), "tags": tags }));
    if let (true, Some(last), Some(limit)) = (page.more, tags.last(), limit) {
        let path = app.settings.location(&format!("v2/{name}/tags/list"));
        insert_next_link(response.headers_mut(), &path, [("last", *last), ("n", &limit.to_string())]);
    }
    Ok(response)
}
