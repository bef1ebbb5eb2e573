//! The listener for operators: liveness, readiness, metrics.

use std::fs;

use serde_json::json;

use crate::harness::client::{Client, get, head};
use crate::harness::content::image;
use crate::harness::server::{TestServer, eventually};

#[tokio::test]
async fn a_running_server_is_live_and_ready() {
    let server = TestServer::start(json!({}));
    let mut operator = Client::of(server.debug_address());
    eventually("ready", || async { is_ready(&server).await }).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(operator.send(get(path)).await.status, 200, "{path}");
        let answer = operator.send(head(path)).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
    }
    assert_eq!(operator.send(get("/v2/")).await.status, 404, "the API is not served there");
    assert_eq!(server.client().send(get("/metrics")).await.status, 404, "and metrics are not served here");
}

/// A load balancer has to stop sending requests, but a restart would mend nothing.
#[tokio::test]
async fn a_server_whose_storage_fails_is_live_but_not_ready_until_it_is_mended() {
    let server =
        TestServer::start(json!({"health": {"storagedriver": {"interval": "100ms", "threshold": 2}}}));
    let status = async |path: &str| Client::of(server.debug_address()).send(get(path)).await.status;
    eventually("ready", || async { is_ready(&server).await }).await;

    // Tests run as root, who may write everywhere: a file in the directory's place stops root too.
    let aside = server.directory().path().join("aside");
    fs::rename(server.root(), &aside).unwrap();
    fs::write(server.root(), "no directory").unwrap();
    eventually("not ready", || async { status("/readyz").await == 503 }).await;
    assert_eq!(status("/livez").await, 200);

    fs::remove_file(server.root()).unwrap();
    fs::rename(&aside, server.root()).unwrap();
    eventually("ready again", || async { is_ready(&server).await }).await;
}

async fn is_ready(server: &TestServer) -> bool {
    Client::of(server.debug_address()).send(get("/readyz")).await.status == 200
}

/// Dashboards that were made for CNCF distribution go on to work.
#[tokio::test]
async fn metrics_have_the_names_of_distribution() {
    let server = TestServer::start(json!({}));
    let mut client = server.client();
    client.push_image("operations/metrics", "v1", &image(1)).await;
    client.send(get("/v2/operations/metrics/manifests/v1")).await;
    client.send(get("/v2/operations/metrics/manifests/none")).await;
    client.send(get("/v2/operations/metrics/tags/list")).await;
    let answer = Client::of(server.debug_address()).send(get("/metrics")).await;
    assert!(answer.header("content-type").is_some_and(|value| value.contains("text")), "{answer}");
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let expected = [
        "registry_http_requests_total{",
        "registry_http_in_flight_requests{",
        "registry_http_request_duration_seconds_bucket{",
        "registry_http_request_size_bytes_bucket{",
        "registry_http_response_size_bytes_bucket{",
        "registry_storage_action_seconds_bucket{",
    ];
    for start in expected {
        assert!(text.lines().any(|line| line.starts_with(start)), "{start} in:\n{text}");
    }
    for (method, code, handler) in [
        ("get", "200", "manifest"),
        ("get", "404", "manifest"),
        ("post", "202", "blob_upload"),
        ("get", "200", "tags"),
    ] {
        let labels =
            [format!("method=\"{method}\""), format!("code=\"{code}\""), format!("handler=\"{handler}\"")];
        let counted = text.lines().any(|line| {
            line.starts_with("registry_http_requests_total{")
                && labels.iter().all(|label| line.contains(label))
        });
        assert!(counted, "{labels:?} in:\n{text}");
    }
    for name in ["operations/metrics", "v1", "none"] {
        assert!(!text.contains(&format!("\"{name}\"")), "no label grows with what is pushed: {name}");
    }
}
