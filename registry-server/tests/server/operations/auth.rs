//! Users of a password file, and what those may do who are none.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::client::{Request, delete, get, head, patch, post, put};
use crate::harness::content::{Content, Image, OCI_LAYER, image};
use crate::harness::conversation::{Step, case, check};
use crate::harness::server::{TestServer, eventually};

const BASIC: &str = "Determining Support: authentication";
const NAME: &str = "operations/auth";
const CHALLENGE: &str = "Basic realm=\"windlass test\"";

#[tokio::test]
async fn without_the_right_password_nothing_is_served() {
    let (server, image) = server_with_users(json!({})).await;
    let wrong = [
        ("no credentials", None),
        ("a wrong password", Some(basic("alice", "wonder"))),
        ("a password that only begins right", Some(basic("alice", "wonderland!"))),
        ("no password", Some(basic("alice", ""))),
        ("an unknown user", Some(basic("mallory", "wonderland"))),
        ("no user", Some(basic("", "wonderland"))),
        ("a hash that is no bcrypt", Some(basic("old", "password"))),
        ("another scheme", Some("Bearer YWxpY2U6d29uZGVybGFuZA==".to_owned())),
        ("no base64", Some("Basic !!!".to_owned())),
        ("no colon", Some("Basic YWxpY2U=".to_owned())),
        ("nothing after the scheme", Some("Basic".to_owned())),
    ];
    let rows = wrong.into_iter().flat_map(|(says, credentials)| {
        let steps = every_request(&image).into_iter().map(move |request| {
            let request = match &credentials {
                Some(credentials) => request.with("authorization", credentials.clone()),
                None => request,
            };
            refused(request)
        });
        [case(BASIC, says, steps)]
    });
    check(&server, rows).await;
    let right = [("alice", "wonderland"), ("bob", "p\u{e4}ss:word")];
    let rows = right.map(|(user, password)| {
        let path = format!("/v2/{NAME}/manifests/v1");
        case(
            BASIC,
            user,
            [get("/v2/").basic(user, password).gives(200), get(&path).basic(user, password).gives(200)],
        )
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn anonymous_pull_serves_reads_and_refuses_all_else() {
    let (server, image) = server_with_users(json!({"access": {"anonymous": "pull"}})).await;
    let blob = format!("/v2/{NAME}/blobs/{}", image.blobs[0].digest());
    let manifest = format!("/v2/{NAME}/manifests/v1");
    let reads =
        [get(&manifest), head(&manifest), get(&blob), head(&blob), get(&format!("/v2/{NAME}/tags/list"))];
    let reads = reads.map(|request| case(BASIC, "anonymous reads", [request.gives(200)]));
    let uploads = format!("/v2/{NAME}/blobs/uploads/");
    let mount = post(&uploads).query("mount", &image.blobs[0].digest()).query("from", NAME);
    let writes = [
        post(&uploads),
        mount,
        put(&manifest).sends(image.manifest.bytes.clone()),
        delete(&manifest),
        delete(&blob),
        // `docker login` learns from this answer whether a password is right.
        get("/v2/"),
    ];
    let writes = writes.map(|request| case(BASIC, "anonymous writes", [refused(request)]));
    let wrong =
        case(BASIC, "wrong credentials are no anonymity", [refused(get(&manifest).basic("alice", "x"))]);
    let user = case(BASIC, "users", [post(&uploads).basic("alice", "wonderland").gives(202)]);
    check(&server, reads.into_iter().chain(writes).chain([wrong, user])).await;
}

#[tokio::test]
async fn a_changed_password_file_is_taken_up_without_a_restart() {
    let (server, _) = server_with_users(json!({})).await;
    let file = server.directory().path().join("htpasswd");
    let status = async |user: &str, password: &str| {
        server.client().send(get("/v2/").basic(user, password)).await.status
    };
    assert_eq!(status("alice", "wonderland").await, 200);

    // Written as `htpasswd` and Kubernetes do: another file put in the old one's place.
    replace(&file, &format!("{}\n", hashed("alice", "new password")));
    eventually("the new password is taken", || async { status("alice", "new password").await == 200 }).await;
    assert_eq!(status("alice", "wonderland").await, 401, "the old password is forgotten");
    assert_eq!(status("bob", "p\u{e4}ss:word").await, 401, "a removed user is forgotten");

    replace(&file, &format!("{}\n{}\n", hashed("alice", "new password"), hashed("carol", "c")));
    eventually("a new user is known", || async { status("carol", "c").await == 200 }).await;
    assert_eq!(status("alice", "new password").await, 200);
}

/// Verifying a password is work: whoever sends wrong ones without end must not keep the others waiting without end.
#[tokio::test]
async fn a_flood_of_wrong_passwords_is_told_to_come_again_later_and_keeps_no_known_user_out() {
    let (server, _) = server_with_users(json!({})).await;
    let users = [hashed("alice", "wonderland"), format!("slow:{}", bcrypt::hash("and steady", 10).unwrap())];
    replace(&server.directory().path().join("htpasswd"), &format!("{}\n", users.join("\n")));
    let ping =
        async |user: &str, password: &str| server.client().send(get("/v2/").basic(user, password)).await;
    eventually("the users are taken up", || async { ping("slow", "and steady").await.status == 200 }).await;
    assert_eq!(ping("alice", "wonderland").await.status, 200);

    // Half the cores verify passwords, for 64 requests each at a time.
    let slots = available_parallelism().unwrap().get().div_ceil(2);
    let passwords: Vec<String> = (0..64 * slots + 20).map(|number| number.to_string()).collect();
    let mut flood: FuturesUnordered<_> = passwords.iter().map(|password| ping("slow", password)).collect();
    let refused = loop {
        let answer = flood.next().await.unwrap();
        if answer.status != 401 {
            break answer;
        }
    };
    assert_eq!((refused.status, refused.codes()), (429, vec!["TOOMANYREQUESTS".to_owned()]), "{refused}");
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(ping("alice", "wonderland").await.status, 200);

    drop(flood);
    eventually("the flood is over", || async { ping("slow", "wrong").await.status == 401 }).await;
}

/// Neither those that are right nor those that are not.
#[tokio::test]
async fn credentials_are_never_logged() {
    let (server, image) = server_with_users(json!({"log": {"level": "debug"}})).await;
    let mut client = server.client();
    let wrong =
        [basic("alice", "looking-glass"), "Basic looking:glass".to_owned(), "Bearer looking".to_owned()];
    for credentials in &wrong {
        for request in every_request(&image) {
            assert_eq!(client.send(request.with("authorization", credentials)).await.status, 401);
        }
    }
    let last = "/v2/operations/auth/manifests/nothing";
    assert_eq!(client.send(get(last).basic("alice", "wonderland")).await.status, 404);
    eventually("all is logged", || async { server.log().contains(last) }).await;
    let log = server.log();
    let right = basic("alice", "wonderland");
    let encoded =
        wrong.iter().chain([&right]).filter_map(|value| value.split_once(' ')).map(|(_, encoded)| encoded);
    for secret in encoded.chain(["wonderland", "looking"]) {
        assert!(!log.contains(secret), "{secret} in:\n{log}");
    }
}

fn replace(file: &Path, content: &str) {
    let new = file.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, file).unwrap();
}

fn refused(request: Request) -> Step {
    request
        .gives(401)
        .header("www-authenticate", CHALLENGE)
        .header("docker-distribution-api-version", "registry/2.0")
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// A request of each kind.
fn every_request(image: &Image) -> Vec<Request> {
    let manifest = format!("/v2/{NAME}/manifests/v1");
    let blob = format!("/v2/{NAME}/blobs/{}", image.blobs[0].digest());
    let upload = format!("/v2/{NAME}/blobs/uploads/67e55044-10b1-426f-9247-bb680e5fe0c8");
    let missing = format!("/v2/{NAME}/blobs/{}", Content::new(OCI_LAYER, "never pushed").digest());
    vec![
        get("/v2/"),
        head("/v2/"),
        get("/v2/_catalog"),
        get(&format!("/v2/{NAME}/tags/list")),
        get(&manifest),
        head(&manifest),
        put(&manifest).sends(image.manifest.bytes.clone()),
        delete(&manifest),
        get(&blob),
        head(&blob),
        get(&missing),
        delete(&blob),
        post(&format!("/v2/{NAME}/blobs/uploads/")),
        get(&upload),
        patch(&upload).sends("x"),
        put(&upload).query("digest", &image.blobs[0].digest()),
        delete(&upload),
    ]
}

/// A server with the users alice and bob, and an image pushed by alice.
pub(super) async fn server_with_users(mut settings: Value) -> (TestServer, Image) {
    let directory = Arc::new(TempDir::new().unwrap());
    let file = directory.path().join("htpasswd");
    let unusable = "old:$apr1$sVOPXWYe$Yq1p1rGoqcvA8HWpXMiHN/";
    let users = [hashed("alice", "wonderland"), hashed("bob", "p\u{e4}ss:word"), unusable.to_owned()];
    fs::write(&file, format!("# users\n\n{}\n", users.join("\n"))).unwrap();
    settings["auth"]["htpasswd"] = json!({"realm": "windlass test", "path": file});
    let server = TestServer::start_in(&directory, settings);
    let image = image(1);
    push_as_alice(&server, NAME, &image).await;
    (server, image)
}

pub(super) async fn push_as_alice(server: &TestServer, name: &str, image: &Image) {
    let mut client = server.client();
    for blob in &image.blobs {
        let push = post(&format!("/v2/{name}/blobs/uploads/")).query("digest", &blob.digest());
        assert_eq!(
            client.send(push.basic("alice", "wonderland").sends(blob.bytes.clone())).await.status,
            201
        );
    }
    let push = put(&format!("/v2/{name}/manifests/v1")).with("content-type", &image.manifest.media_type);
    let push = push.basic("alice", "wonderland").sends(image.manifest.bytes.clone());
    assert_eq!(client.send(push).await.status, 201);
}

/// A line of the password file, with the least cost that bcrypt allows.
fn hashed(user: &str, password: &str) -> String {
    format!("{user}:{}", bcrypt::hash(password, 4).unwrap())
}
