//! Tokens of Kubernetes' `ServiceAccount`s as credentials.
//!
//! `tokens/token` was signed once by a key that is no more, for `system:serviceaccount:team-a:builder`, and ends in 2100;
//! `tokens/jwks.json` has the public key. Which tokens are refused is tested beside the code, where there are keys.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::auth::server_with_users;
use crate::harness::client::{Request, get, post};
use crate::harness::conversation::{case, check};
use crate::harness::server::TestServer;

const TOKENS: &str = "auth.kubernetes";
const TOKEN: &str = include_str!("tokens/token");

fn kubernetes() -> Value {
    let jwks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/operations/tokens/jwks.json");
    json!({"issuer": "https://kubernetes.test", "audience": "windlass.test", "jwks": jwks})
}

/// Each `ServiceAccount` may push to what is called like its namespace, and nothing else is allowed.
fn rules() -> Value {
    json!([{"subjects": [{"kind": "ServiceAccount"}], "repositories": ["{namespace}/**"], "actions": ["push"]}])
}

fn push(repository: &str) -> Request {
    post(&format!("/v2/{repository}/blobs/uploads/"))
}

fn with_token(request: Request) -> Request {
    request.with("authorization", format!("Bearer {TOKEN}"))
}

#[tokio::test]
async fn a_token_is_a_password_of_any_user_or_a_bearer_token() {
    let directory = Arc::new(TempDir::new().unwrap());
    let settings = json!({"auth": {"kubernetes": kubernetes()}, "access": {"rules": rules()}});
    let server = TestServer::start_in(&directory, settings);
    let damaged = TOKEN.replace('.', ".A");
    let rows = [
        case(
            TOKENS,
            "asked for as a password",
            [get("/v2/").gives(401).header("www-authenticate", "Basic realm=\"windlass.test\"")],
        ),
        case(TOKENS, "as a bearer token", [with_token(get("/v2/")).gives(200)]),
        case(TOKENS, "as a password", [get("/v2/").basic("any", TOKEN).gives(200)]),
        case(TOKENS, "its namespace's", [with_token(push("team-a/app")).gives(202)]),
        case(TOKENS, "not another's", [with_token(push("team-b/app")).gives(403).code("DENIED")]),
        case(
            TOKENS,
            "damaged, alone",
            [get("/v2/").with("authorization", format!("Bearer {damaged}")).gives(401)],
        ),
        case(TOKENS, "damaged, as a password", [get("/v2/").basic("any", &damaged).gives(401)]),
        case(TOKENS, "no token", [get("/v2/").basic("any", "password").gives(401)]),
    ];
    check(&server, rows).await;
    assert!(!server.log().contains(TOKEN), "credentials are never logged");
}

#[tokio::test]
async fn users_with_passwords_and_tokens_stand_side_by_side() {
    let everyone = json!([{"kind": "Authenticated"}]);
    let rules = json!([{"subjects": everyone, "repositories": ["**"], "actions": ["push"]}]);
    let settings = json!({"auth": {"kubernetes": kubernetes()}, "access": {"rules": rules}});
    let (server, _) = server_with_users(settings).await;
    let rows = [
        case(TOKENS, "a user", [push("any/app").basic("alice", "wonderland").gives(202)]),
        case(TOKENS, "a token", [with_token(push("any/app")).gives(202)]),
        case(TOKENS, "a wrong password", [push("any/app").basic("alice", "x").gives(401)]),
    ];
    check(&server, rows).await;
}
