//! Passwords of pull secrets, with which the namespaces of a cluster pull and do nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use registry_server::auth::pull_secrets::{PREFIX, line};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::auth::{push_as_alice, server_with_users};
use crate::harness::client::{Request, delete, get, post, put};
use crate::harness::content::{Image, image};
use crate::harness::conversation::{case, check};
use crate::harness::server::{TestServer, eventually};

const PULL_SECRETS: &str = "auth.pullsecrets";

fn password(end: &str) -> String {
    format!("{PREFIX}{end}")
}

fn file(directory: &Path, lines: &[(&str, &str)]) -> PathBuf {
    let path = directory.join("pull-secrets");
    let lines = lines.iter().map(|(namespace, end)| line(namespace, &password(end)));
    fs::write(&path, lines.collect::<String>()).unwrap();
    path
}

/// A server that knows the passwords `a1` and `a2` of the namespace `team-a` and `b` of `team-b`, and Alice.
async fn server(directory: &Path, rules: Value) -> (TestServer, Image) {
    let path = file(directory, &[("team-a", "a1"), ("team-a", "a2"), ("team-b", "b")]);
    let settings = json!({"auth": {"pullsecrets": {"path": path}}, "access": {"rules": rules}});
    server_with_users(settings).await
}

fn manifest(repository: &str) -> Request {
    get(&format!("/v2/{repository}/manifests/v1"))
}

#[tokio::test]
async fn a_namespace_pulls_what_rules_grant_it_and_never_does_more() {
    let directory = TempDir::new().unwrap();
    let all = json!(["pull", "push", "delete", "list"]);
    let rules = json!([
        {"subjects": [{"kind": "User", "name": "alice"}], "repositories": ["**"], "actions": all},
        {"subjects": [{"kind": "ServiceAccount"}], "repositories": ["{namespace}/**"], "actions": all},
    ]);
    let (server, _) = server(directory.path(), rules).await;
    let image = image(2);
    for name in ["team-a/app", "team-b/app"] {
        push_as_alice(&server, name, &image).await;
    }
    let with = |request: Request, end: &str| request.basic("pull", &password(end));
    let blob = |name: &str| format!("/v2/{name}/blobs/{}", image.blobs[0].digest());
    let push = put("/v2/team-a/app/manifests/v2").sends(image.manifest.bytes.clone());
    let rows = [
        case(PULL_SECRETS, "logs in", [with(get("/v2/"), "a1").gives(200)]),
        case(PULL_SECRETS, "its own", [with(manifest("team-a/app"), "a1").gives(200)]),
        case(PULL_SECRETS, "both are valid", [with(get(&blob("team-a/app")), "a2").gives(200)]),
        case(PULL_SECRETS, "its tags", [with(get("/v2/team-a/app/tags/list"), "a1").gives(200)]),
        case(
            PULL_SECRETS,
            "the name does not matter",
            [manifest("team-b/app").basic("any", &password("b")).gives(200)],
        ),
        case(PULL_SECRETS, "another's", [with(manifest("team-b/app"), "a1").gives(403).code("DENIED")]),
        case(PULL_SECRETS, "an upload", [with(post("/v2/team-a/app/blobs/uploads/"), "a1").gives(403)]),
        case(PULL_SECRETS, "a push", [with(push, "a1").gives(403)]),
        case(PULL_SECRETS, "a delete", [with(delete(&blob("team-a/app")), "a1").gives(403)]),
        case(PULL_SECRETS, "the catalogue", [with(get("/v2/_catalog"), "a1").gives(403)]),
        case(
            PULL_SECRETS,
            "unknown",
            [with(manifest("team-a/app"), "a3").gives(401).some_header("www-authenticate")],
        ),
        case(PULL_SECRETS, "a user", [manifest("team-a/app").basic("alice", "wonderland").gives(200)]),
    ];
    check(&server, rows).await;
    assert!(!server.log().contains(PREFIX), "passwords are never logged");
    assert!(server.log().contains("system:serviceaccounts:team-a"), "who pulls is");
}

#[tokio::test]
async fn without_rules_a_namespace_pulls_everything_and_users_do_all() {
    let directory = TempDir::new().unwrap();
    let (server, image) = server(directory.path(), json!([])).await;
    push_as_alice(&server, "any/app", &image).await;
    let with = |request: Request| request.basic("pull", &password("b"));
    let rows = [
        case(PULL_SECRETS, "pulls", [with(manifest("any/app")).gives(200)]),
        case(PULL_SECRETS, "pushes", [with(post("/v2/any/app/blobs/uploads/")).gives(403)]),
        case(PULL_SECRETS, "nobody", [manifest("any/app").gives(401)]),
    ];
    check(&server, rows).await;
}

#[tokio::test]
async fn alone_they_still_keep_everybody_else_out() {
    let directory = Arc::new(TempDir::new().unwrap());
    let path = file(directory.path(), &[("team-a", "a")]);
    let server = TestServer::start_in(&directory, json!({"auth": {"pullsecrets": {"path": path}}}));
    let challenge = "Basic realm=\"Registry\"";
    let push = || post("/v2/any/app/blobs/uploads/");
    let rows = [
        case(PULL_SECRETS, "nobody", [get("/v2/").gives(401).header("www-authenticate", challenge)]),
        case(PULL_SECRETS, "nobody pushes", [push().gives(401)]),
        case(PULL_SECRETS, "nor with a pull secret", [push().basic("x", &password("a")).gives(403)]),
        case(PULL_SECRETS, "nothing there", [manifest("any/app").basic("x", &password("a")).gives(404)]),
    ];
    check(&server, rows).await;
}

#[tokio::test]
async fn changes_of_the_file_count_within_a_second_without_a_restart() {
    let directory = TempDir::new().unwrap();
    let (server, _) = server(directory.path(), json!([])).await;
    let status = async |end: &str| server.client().send(get("/v2/").basic("x", &password(end))).await.status;
    assert_eq!((status("a1").await, status("new").await), (200, 401));
    file(directory.path(), &[("team-a", "new")]);
    let changed = async || (status("a1").await, status("new").await) == (401, 200);
    eventually("the new password alone is right", changed).await;
}
