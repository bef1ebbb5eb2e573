//! The record of one request: a line in the access log and the metrics, written when its answer has been sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_LENGTH, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, StatusCode, Version};
use uuid::Uuid;

use crate::metrics::{Metrics, RequestFigures, RequestLabels};
use crate::telemetry::ACCESS_LOG;

/// The header by which a request is named, in the log and to the client.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What is told about a request once it has ended. Dropping it tells.
#[derive(Debug)]
pub(super) struct Record {
    metrics: Arc<Metrics>,
    started: Instant,
    handler: &'static str,
    method: Method,
    path: String,
    version: Version,
    peer: Option<SocketAddr>,
    user_agent: String,
    request_bytes: u64,
    /// The request's id.
    pub(super) id: String,
    /// Who asks, once it is known.
    pub(super) user: Option<String>,
    /// The answer's status. 499, as nginx has it, until there is one: the client went first.
    pub(super) status: u16,
    /// Bytes of the answer's body that were sent.
    pub(super) sent: u64,
}

impl Record {
    /// Begins the record of a request.
    pub(super) fn begin(
        metrics: &Arc<Metrics>,
        handler: &'static str,
        parts: &Parts,
        peer: Option<SocketAddr>,
    ) -> Self {
        metrics.begin_request(handler);
        let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            metrics: Arc::clone(metrics),
            started: Instant::now(),
            handler,
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            version: parts.version,
            peer,
            user_agent: text(USER_AGENT).unwrap_or_default().to_owned(),
            request_bytes: text(CONTENT_LENGTH).and_then(|length| length.parse().ok()).unwrap_or(0),
            id: request_id(&parts.headers),
            user: None,
            status: 499,
            sent: 0,
        }
    }

    /// Notes the answer's status.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        tracing::info!(
            target: ACCESS_LOG,
            id = self.id,
            peer = self.peer.map(tracing::field::display),
            user = self.user,
            method = %self.method,
            path = self.path,
            version = ?self.version,
            status = self.status,
            bytes = self.sent,
            seconds = duration.as_secs_f64(),
            user_agent = self.user_agent,
        );
        let labels =
            RequestLabels { code: self.status, handler: self.handler, method: method_label(&self.method) };
        let figures =
            RequestFigures { duration, request_bytes: self.request_bytes, response_bytes: self.sent };
        self.metrics.end_request(&labels, figures);
    }
}

/// The id that a proxy gave the request, if it is harmless in a log, or a fresh one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let harmless = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    given.filter(harmless).map_or_else(|| Uuid::new_v4().to_string(), ToOwned::to_owned)
}

/// A client can invent methods, so only the known ones may become labels.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        http::Request::builder().uri("/v2/").body(()).unwrap().into_parts().0
    }

    #[test]
    fn an_id_is_taken_over_only_when_it_is_harmless() {
        for (given, kept) in [("abc-DEF_1", true), ("a b", false), ("", false), (&*"x".repeat(65), false)] {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, given.parse().unwrap());
            assert_eq!(request_id(&headers) == given, kept, "{given}");
        }
    }

    #[test]
    fn a_request_whose_client_went_is_counted_as_499() {
        let metrics = Arc::new(Metrics::new());
        drop(Record::begin(&metrics, "blob", &parts(), None));
        let text = metrics.render().unwrap();
        assert!(text.contains(r#"requests_total{code="499",handler="blob",method="get"} 1"#), "{text}");
        assert!(text.contains(r#"in_flight_requests{handler="blob"} 0"#), "{text}");
    }
}
