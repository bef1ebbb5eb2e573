//! `/v2/`: the server speaks the protocol, and the credentials hold (end-1).

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};

use super::body::Body;

/// `GET /v2/`
pub(super) fn get() -> Response<Body> {
    let mut response = Response::new(Body::from("{}"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
