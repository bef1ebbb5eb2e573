//! The order in which a request is checked: path, method, credentials, switches, then the endpoint.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use super::body::Body;
use super::error::Error;
use super::headers::header_value;
use super::record::{REQUEST_ID, Record};
use super::request_body::RequestBody;
use super::route::{Route, RouteError};
use super::{base, blobs, catalog, manifests, referrers, tags, uploads};
use crate::app::App;
use crate::auth::{Credentials, Denial, Identity};
use crate::config::Right;

/// The header by which clients know the protocol.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Answers requests.
#[derive(Debug)]
pub(super) struct Dispatcher {
    app: Arc<App>,
    /// Headers of every answer.
    extra_headers: HeaderMap,
}

impl Dispatcher {
    /// A dispatcher that adds the given headers to every answer.
    pub(super) fn new(app: Arc<App>, extra_headers: HeaderMap) -> Self {
        Self { app, extra_headers }
    }

    /// Answers one request; its record is written when the answer has been sent.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: Option<SocketAddr>,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = RequestBody::new(body, &parts.headers, self.app.settings.client_timeout);
        let path = parts.uri.path();
        let route = match path.strip_prefix(&self.app.settings.prefix) {
            // Load balancers ask for `/` to see whether the server lives.
            Some("") => return Response::new(Body::empty()),
            Some(path) => Route::parse(&parts.method, path),
            None => Err(RouteError::NotFound),
        };
        let handler = route.as_ref().map_or("none", Route::handler);
        let mut record = Record::begin(&self.app.metrics, handler, &parts, peer);
        let answered = match route {
            Ok(route) => self.check_and_handle(route, &parts, body, &mut record).await,
            Err(error) => Err(error.into()),
        };
        let mut response = answered.unwrap_or_else(Error::into_response);
        if parts.method == Method::HEAD {
            response = without_body(response);
        }
        let headers = response.headers_mut();
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        headers.insert(REQUEST_ID, header_value(&record.id));
        headers.extend(self.extra_headers.clone());
        record.answered(response.status());
        response.map(|body| body.with_record(record))
    }

    async fn check_and_handle(
        &self,
        route: Route,
        parts: &Parts,
        body: RequestBody,
        record: &mut Record,
    ) -> Result<Response<Body>, Error> {
        if !route.methods().contains(&parts.method) {
            return Err(Error::Method(route.methods()));
        }
        let caller = self.authorize(&route, parts).await?;
        record.user.clone_from(&caller.user);
        self.check_switches(&route, &parts.method)?;
        self.handle(route, &caller, parts, body).await
    }

    /// Who asks, if they may.
    async fn authorize(&self, route: &Route, parts: &Parts) -> Result<Identity, Error> {
        let auth = &self.app.auth;
        let unauthorized = || Error::Unauthorized { challenge: auth.challenge().map(str::to_owned) };
        let credentials = match parts.headers.get(AUTHORIZATION) {
            // A registry that asks nobody who they are does not look at what they say, either.
            Some(value) if auth.challenge().is_some() => Some(credentials(value).ok_or_else(unauthorized)?),
            _ => None,
        };
        let denied = |denial| match denial {
            Denial::Unauthenticated => unauthorized(),
            Denial::Forbidden => Error::Denied,
            Denial::Overloaded => Error::TooManyLogins,
            Denial::Unanswered => Error::Undecided,
        };
        let caller = auth.authenticate(credentials.as_ref()).await.map_err(denied)?;
        auth.authorize(&caller, route.right(&parts.method), route.repository()).await.map_err(denied)?;
        Ok(caller)
    }

    fn check_switches(&self, route: &Route, method: &Method) -> Result<(), Error> {
        let Some(reason) = self.switched_off(route, method) else { return Ok(()) };
        let allowed = route.methods().iter().filter(|method| self.switched_off(route, method).is_none());
        Err(Error::Disabled { reason, allowed: allowed.cloned().collect() })
    }

    /// The setting that forbids the method here.
    fn switched_off(&self, route: &Route, method: &Method) -> Option<&'static str> {
        let settings = &self.app.settings;
        if settings.read_only && !matches!(*method, Method::GET | Method::HEAD) {
            return Some("the registry is read-only");
        }
        let deletes = route.right(method) == Some(Right::Delete);
        (deletes && !settings.delete_enabled).then_some("deletion is not enabled (storage.delete.enabled)")
    }

    async fn handle(
        &self,
        route: Route,
        caller: &Identity,
        parts: &Parts,
        body: RequestBody,
    ) -> Result<Response<Body>, Error> {
        let app = &*self.app;
        let method = &parts.method;
        match route {
            Route::Base => Ok(base::get()),
            Route::Catalog => catalog::get(app, caller, parts).await,
            Route::Tags(name) => tags::get(app, &name, parts).await,
            Route::Referrers(name, subject) => referrers::get(app, &name, &subject, parts).await,
            Route::Manifest(name, reference) => match *method {
                Method::PUT => manifests::put(app, &name, &reference, parts, body).await,
                Method::DELETE => manifests::delete(app, &name, &reference).await,
                _ => manifests::get(app, &name, &reference, parts).await,
            },
            Route::Blob(name, digest) => match *method {
                Method::DELETE => blobs::delete(app, &name, &digest).await,
                Method::HEAD => blobs::head(app, &name, &digest, parts).await,
                _ => blobs::get(app, &name, &digest, parts).await,
            },
            Route::Uploads(name) => uploads::post(app, caller, &name, parts, body).await,
            Route::Upload(name, id) => match *method {
                Method::PATCH => uploads::patch(app, &name, id, parts, body).await,
                Method::PUT => uploads::put(app, &name, id, parts, body).await,
                Method::DELETE => uploads::delete(app, &name, id).await,
                _ => uploads::get(app, &name, id).await,
            },
        }
    }
}

/// The credentials of a header `Authorization`, `Basic` (RFC 7617) or `Bearer` (RFC 6750).
fn credentials(value: &HeaderValue) -> Option<Credentials> {
    let (scheme, value) = value.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Credentials::Bearer(value.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Credentials::Basic { user: user.to_owned(), password: password.to_owned() })
}

/// The answer to HEAD: what GET would say of the body, and no body (RFC 9110 §9.3.2). Over HTTP/1 hyper sends none
/// anyway; over HTTP/2 it would send what there is, and clients take that for a broken connection.
fn without_body(mut response: Response<Body>) -> Response<Body> {
    let says_length = !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let Some(length) = response.body().size_hint().exact().filter(|_| says_length) {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(length.into());
    }
    response.map(|_| Body::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_head_says_the_length_but_where_none_may_be_said() {
        let rows = [
            (StatusCode::NOT_FOUND, Some("3")),
            (StatusCode::NOT_MODIFIED, None),
            (StatusCode::NO_CONTENT, None),
        ];
        for (status, expected) in rows {
            let mut response = Response::new(Body::from("abc"));
            *response.status_mut() = status;
            let response = without_body(response);
            let length = response.headers().get(CONTENT_LENGTH).map(|length| length.to_str().unwrap());
            assert_eq!((length, response.body().is_end_stream()), (expected, true), "{status}");
        }
    }

    #[test]
    fn credentials_are_read_as_their_schemes_say() {
        let rows = [
            ("Basic dXNlcjpwYXNz", true),
            ("basic  dXNlcjpwYXNz", true),
            ("Basic dXNlcg==", false),
            ("Basic !", false),
            ("Bearer dXNlcjpwYXNz", true),
            ("Digest dXNlcjpwYXNz", false),
            ("Basic", false),
        ];
        for (value, expected) in rows {
            assert_eq!(credentials(&value.parse().unwrap()).is_some(), expected, "{value}");
        }
    }
}
