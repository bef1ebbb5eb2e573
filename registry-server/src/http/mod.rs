//! HTTP in, registry calls out.
//!
//! `route` and `dispatch` decide what a request asks for and whether it may; then comes one handler file for each
//! family of endpoints, of the same name as the file with its rules in [`crate::registry`]. Status codes and
//! headers are spelled nowhere else.

mod base;
mod blobs;
mod body;
mod catalog;
mod dispatch;
mod error;
mod headers;
mod health;
mod listener;
mod manifests;
mod query;
mod record;
mod referrers;
mod request_body;
mod route;
mod sendfile;
mod server;
mod tags;
mod tls;
mod uploads;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde_json::Value;

pub use listener::{ListenError, Listener};
pub use server::{ServeError, serve};

use body::Body;

/// The repository that a path names, without the server's prefix: the way in for the fuzz target `routes`, which is the
/// only program with this function.
#[cfg(fuzzing)]
#[must_use]
pub fn repository_of_path(method: &http::Method, path: &str) -> Option<crate::types::RepositoryName> {
    route::Route::parse(method, path).ok()?.repository().cloned()
}

/// An answer with a JSON body.
fn respond_json(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
