//! When something was pulled is kept in files beside the tree, for retention rules.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::harness::client::{delete, get, head};
use crate::harness::content::image;
use crate::harness::server::{SOON, TestServer};

const NAME: &str = "operations/pulls";

#[tokio::test]
async fn times_of_pulls_are_written_at_the_end_and_stay() {
    let mut server = TestServer::start(json!({}));
    let image = image(1);
    let mut client = server.client();
    for tag in ["got", "asked", "idle", "deleted"] {
        client.push_image(NAME, tag, &image).await;
    }
    let digest = image.manifest.digest();
    let etag = format!("\"{digest}\"");
    let rows = [
        (get(&path("got")), 200),
        (get(&path("got")), 200),
        (head(&path("asked")), 200),
        (head(&path("asked")).with("if-none-match", etag), 304),
        (get(&path("deleted")), 200),
        (get(&path("missing")), 404),
        (head(&path(&digest)), 200),
    ];
    for (request, status) in rows {
        assert_eq!(client.send(request).await.status, status);
    }
    let since = SystemTime::now();
    stop(&mut server);
    let tags = ["got", "asked", "deleted"].map(|tag| format!("_tags/{tag}"));
    let mut expected = BTreeSet::from(tags);
    assert_eq!(pulled(&server), expected);

    let mut server = server.beside();
    let mut client = server.client();
    assert_eq!(client.send(get(&path(&digest))).await.status, 200);
    assert_eq!(client.send(delete(&path("deleted"))).await.status, 202);
    stop(&mut server);
    expected.remove("_tags/deleted");
    expected.insert(format!("_digests/{}", digest.replace(':', "/")));
    assert_eq!(pulled(&server), expected, "those of before are still there, but for what was deleted");
    let file = fs::metadata(directory(&server).join("_tags/got")).unwrap();
    assert_eq!(file.len(), 0);
    assert!(file.modified().unwrap() + Duration::from_secs(1) > since, "its time is that of the pull");
}

fn path(reference: &str) -> String {
    format!("/v2/{NAME}/manifests/{reference}")
}

fn stop(server: &mut TestServer) {
    server.terminate();
    assert!(server.exit_within(SOON).is_some_and(|status| status.success()));
}

fn directory(server: &TestServer) -> std::path::PathBuf {
    server.root().join("windlass/pulled").join(NAME)
}

/// The files that say that something was pulled.
fn pulled(server: &TestServer) -> BTreeSet<String> {
    fn collect(base: &Path, directory: &Path, files: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(base, &path, files);
            } else {
                files.insert(path.strip_prefix(base).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut files = BTreeSet::new();
    collect(&directory(server), &directory(server), &mut files);
    files
}
