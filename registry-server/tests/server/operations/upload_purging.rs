//! Uploads that nobody goes on with are removed, as `storage.maintenance.uploadpurging` says.

use serde_json::json;

use crate::harness::client::{LOCATION, get, post};
use crate::harness::server::{TestServer, eventually};

#[tokio::test]
async fn an_upload_that_nobody_goes_on_with_is_removed() {
    let purging = json!({"age": "1s", "interval": "1s"});
    let server = TestServer::start(json!({"storage": {"maintenance": {"uploadpurging": purging}}}));
    let session = begin(&server).await;
    eventually("the session is gone", || async { status(&server, &session).await == 404 }).await;
    eventually("it is logged", || async { server.log().contains("an upload was removed") }).await;
}

#[tokio::test]
async fn a_trial_removes_nothing() {
    let purging = json!({"age": "0s", "interval": "1s", "dryrun": true});
    let server = TestServer::start(json!({"storage": {"maintenance": {"uploadpurging": purging}}}));
    let session = begin(&server).await;
    eventually("it is logged", || async { server.log().contains("an upload would be removed") }).await;
    assert_eq!(status(&server, &session).await, 204);
}

/// The address of a new upload.
async fn begin(server: &TestServer) -> String {
    let mut client = server.client();
    assert_eq!(client.send(post("/v2/operations/purging/blobs/uploads/")).await.status, 202);
    client.location().to_owned()
}

async fn status(server: &TestServer, session: &str) -> u16 {
    let mut client = server.client();
    client.continue_at(session);
    client.send(get(LOCATION)).await.status
}
