//! What is logged, what never is, and headers on every answer.

use serde_json::{Value, json};

use crate::harness::client::{get, put};
use crate::harness::server::{TestServer, eventually};

#[tokio::test]
async fn each_request_is_logged_and_no_secret_is() {
    let server = TestServer::start(json!({"log": {"level": "debug"}}));
    let mut client = server.client();
    client
        .send(
            get("/v2/operations/logs/tags/list").basic("alice", "wonderland").with("user-agent", "tester/1"),
        )
        .await;
    client.send(put("/v2/operations/logs/manifests/v1").sends("a body that is nobody's business")).await;
    eventually("both are logged", || async {
        let log = server.log();
        log.contains("/v2/operations/logs/tags/list") && log.contains("/v2/operations/logs/manifests/v1")
    })
    .await;
    let log = server.log();
    assert!(log.contains("tester/1"), "{log}");
    for secret in ["wonderland", "YWxpY2U6d29uZGVybGFuZA", "nobody's business"] {
        assert!(!log.contains(secret), "{secret} in:\n{log}");
    }
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "one JSON object a line: {line}");
    }
}

#[tokio::test]
async fn requests_can_be_left_out_of_the_log() {
    let server = TestServer::start(json!({"log": {"accesslog": {"disabled": true}}}));
    server.client().send(get("/v2/operations/quiet/tags/list")).await;
    assert!(!server.log().contains("/v2/operations/quiet"), "{}", server.log());
}

#[tokio::test]
async fn headers_of_the_configuration_are_on_every_answer() {
    let headers =
        json!({"X-Content-Type-Options": ["nosniff"], "Access-Control-Allow-Origin": ["https://a.example"]});
    let server = TestServer::start(json!({"http": {"headers": headers}}));
    let mut client = server.client();
    for path in ["/v2/", "/v2/operations/headers/tags/list", "/v2/nothing"] {
        let answer = client.send(get(path)).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}: {answer}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://a.example"), "{path}");
    }
}
