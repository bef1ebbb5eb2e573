//! Metrics, under the names that CNCF distribution gives them, so that dashboards keep working.

use std::fmt;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the buckets of durations, in seconds: Prometheus' usual ones and two for large blobs.
const SECONDS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0];
/// Upper bounds of the buckets of storage actions, which are mostly far below a millisecond.
const ACTION_SECONDS: [f64; 11] =
    [0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 1.0, 10.0];
/// Upper bounds of the buckets of sizes, in bytes.
const BYTES: [f64; 7] =
    [1024.0, 65_536.0, 1_048_576.0, 16_777_216.0, 134_217_728.0, 1_073_741_824.0, 10_737_418_240.0];

/// All metrics of the server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    in_flight: Family<HandlerLabel, Gauge<i64, AtomicI64>>,
    requests: Family<RequestLabels, Counter>,
    duration: Family<RequestLabels, Histogram>,
    request_size: Family<RequestLabels, Histogram>,
    response_size: Family<RequestLabels, Histogram>,
    storage_action: Family<ActionLabels, Histogram>,
    pulls_unrecorded: Counter,
}

/// Labels of requests that are running.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandlerLabel {
    handler: &'static str,
}

/// Labels of requests that have ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// Status code.
    pub code: u16,
    /// The endpoint.
    pub handler: &'static str,
    /// The method in lower case; `other` for those that the API does not know.
    pub method: &'static str,
}

/// Labels of storage actions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    driver: &'static str,
    action: &'static str,
}

/// The figures of one request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct RequestFigures {
    /// Time from the request's head to the last byte of the answer.
    pub duration: Duration,
    /// Bytes of the request's body as it declared them.
    pub request_bytes: u64,
    /// Bytes of the answer's body that were sent.
    pub response_bytes: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that have counted nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("registry");
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let bytes: fn() -> Histogram = || Histogram::new(BYTES);
        let action: fn() -> Histogram = || Histogram::new(ACTION_SECONDS);
        let metrics = Self {
            in_flight: Family::default(),
            requests: Family::default(),
            duration: Family::new_with_constructor(seconds),
            request_size: Family::new_with_constructor(bytes),
            response_size: Family::new_with_constructor(bytes),
            storage_action: Family::new_with_constructor(action),
            pulls_unrecorded: Counter::default(),
            registry: Registry::default(),
        };
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running server", version);
        let http = registry.sub_registry_with_prefix("http");
        http.register("in_flight_requests", "Requests that are running", metrics.in_flight.clone());
        http.register("requests", "Requests that have ended", metrics.requests.clone());
        let unit = Unit::Seconds;
        http.register_with_unit("request_duration", "Time to the last byte", unit, metrics.duration.clone());
        let unit = Unit::Bytes;
        http.register_with_unit("request_size", "Sizes of requests", unit, metrics.request_size.clone());
        let unit = Unit::Bytes;
        http.register_with_unit("response_size", "Sizes of answers", unit, metrics.response_size.clone());
        let storage = registry.sub_registry_with_prefix("storage");
        let unit = Unit::Seconds;
        storage.register_with_unit("action", "Time that storage took", unit, metrics.storage_action.clone());
        let text = "Pulls whose time is not kept for retention";
        registry.register("pulls_unrecorded", text, metrics.pulls_unrecorded.clone());
        Self { registry, ..metrics }
    }

    /// Counts a request that begins.
    pub fn begin_request(&self, handler: &'static str) {
        self.in_flight.get_or_create(&HandlerLabel { handler }).inc();
    }

    /// Counts a request that has ended.
    pub fn end_request(&self, labels: &RequestLabels, figures: RequestFigures) {
        self.in_flight.get_or_create(&HandlerLabel { handler: labels.handler }).dec();
        self.requests.get_or_create(labels).inc();
        self.duration.get_or_create(labels).observe(figures.duration.as_secs_f64());
        self.request_size.get_or_create(labels).observe(as_f64(figures.request_bytes));
        self.response_size.get_or_create(labels).observe(as_f64(figures.response_bytes));
    }

    /// Counts a storage action.
    pub fn storage_action(&self, driver: &'static str, action: &'static str, duration: Duration) {
        self.storage_action.get_or_create(&ActionLabels { driver, action }).observe(duration.as_secs_f64());
    }

    /// Counts pulls whose time is not kept, because too many others wait or the storage cannot be written.
    pub fn pulls_unrecorded(&self, count: u64) {
        self.pulls_unrecorded.inc_by(count);
    }

    /// All metrics in the text format of `OpenMetrics`.
    ///
    /// # Errors
    /// None in practice: writing to a `String` cannot fail.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a size beyond 2^53 bytes may be off by one in a histogram")]
fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_the_names_of_cncf_distribution() {
        let metrics = Metrics::new();
        metrics.begin_request("blob");
        let figures =
            RequestFigures { duration: Duration::from_millis(7), request_bytes: 0, response_bytes: 42 };
        metrics.end_request(&RequestLabels { code: 200, handler: "blob", method: "get" }, figures);
        metrics.begin_request("manifest");
        metrics.storage_action("filesystem", "Stat", Duration::from_micros(20));
        metrics.pulls_unrecorded(3);
        let text = metrics.render().unwrap();
        for line in [
            r#"registry_http_in_flight_requests{handler="blob"} 0"#,
            r#"registry_http_in_flight_requests{handler="manifest"} 1"#,
            r#"registry_http_requests_total{code="200",handler="blob",method="get"} 1"#,
            r#"registry_http_request_duration_seconds_count{code="200",handler="blob",method="get"} 1"#,
            r#"registry_http_request_size_bytes_sum{code="200",handler="blob",method="get"} 0"#,
            r#"registry_http_response_size_bytes_sum{code="200",handler="blob",method="get"} 42"#,
            r#"registry_storage_action_seconds_count{driver="filesystem",action="Stat"} 1"#,
            "registry_pulls_unrecorded_total 3",
            "registry_build_info{version=",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
