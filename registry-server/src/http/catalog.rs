//! `/v2/_catalog`: CNCF distribution's list of repositories.

use std::sync::Arc;

use http::Response;
use http::request::Parts;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::body::Body;
use super::error::Error;
use super::headers::insert_next_link;
use super::query::{page_size, parameter};
use super::respond_json;
use crate::app::App;
use crate::auth::Identity;
use crate::config::Right;
use crate::types::RepositoryName;

/// What a caller needs in a repository to see it.
const NEEDED: [Right; 2] = [Right::List, Right::Pull];

/// `GET`: the repositories after `last` that the caller may know of, at most `n` of them and never more than the server's
/// limit. What is left out is behind the link. The cluster is asked for all repositories at once, never for each.
pub(super) async fn get(app: &App, caller: &Identity, parts: &Parts) -> Result<Response<Body>, Error> {
    let most = app.settings.max_catalog_entries;
    let limit = page_size(parts)?.map_or(most, |n| n.min(most));
    let last = parameter(parts, "last");
    let sees_all = sees_all(app, caller).await?;
    let (registry, runtime) = (app.listings.clone(), Handle::current());
    let (auth, caller) = (Arc::clone(&app.auth), caller.clone());
    let page = spawn_blocking(move || {
        let is_shown = |name: &RepositoryName| {
            sees_all || NEEDED.into_iter().all(|right| auth.may_by_rule(&caller, right, name))
        };
        runtime.block_on(registry.list_repositories(last.as_deref(), limit, is_shown))
    });
    let page = page.await.map_err(Error::Listing)??;
    let names: Vec<&str> = page.entries.iter().map(RepositoryName::as_str).collect();
    let mut response = respond_json(&json!({ "repositories": names }));
    if let (true, Some(last)) = (page.more, names.last()) {
        let path = app.settings.location("v2/_catalog");
        insert_next_link(response.headers_mut(), &path, [("last", *last), ("n", &limit.to_string())]);
    }
    Ok(response)
}

async fn sees_all(app: &App, caller: &Identity) -> Result<bool, Error> {
    for right in NEEDED {
        if !app.auth.may_everywhere(caller, right).await.map_err(|_| Error::Undecided)? {
            return Ok(false);
        }
    }
    Ok(true)
}
