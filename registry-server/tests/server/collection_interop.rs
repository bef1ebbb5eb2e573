//! After every kind of run of our garbage collection, Debian's `docker-registry` (CNCF distribution 2.8) serves what
//! is left, whole, and its own garbage collection finds nothing that ours has overlooked.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::json;

use crate::harness::client::{Client, delete, get};
use crate::harness::content::{Image, OCI_INDEX, image, index_of, sha256};
use crate::harness::peer::{Edition, Peer, collect_with_peer};
use crate::harness::server::{BINARY, TestServer};

/// Whatever is not reachable goes at once.
const NOW: [&str; 2] = ["--grace-period", "0s"];

/// Tags that are there after any run, with their images' seeds, and one that retention lets go.
const KEPT: [(&str, &str, u64); 3] =
    [("team/app", "v2", 2), ("team/app", "v3", 3), ("team/app/nested", "v1", 1)];
const LET_GO: (&str, &str, u64) = ("team/app", "v1", 4);

/// A registry with garbage of every kind that distribution knows: manifests without tags, blobs without manifests,
/// histories of tags, links to deleted manifests.
async fn with_garbage() -> TestServer {
    let server = TestServer::start(json!({}));
    let mut client = server.client();
    for (name, tag, seed) in [LET_GO].iter().chain(&KEPT) {
        client.push_image(name, tag, &image(*seed)).await;
    }
    client.push_image("team/app", "moved", &image(10)).await;
    client.push_image("team/app", "moved", &image(2)).await;
    client.push_image("team/app", &image(11).manifest.digest(), &image(11)).await;
    client.push_image("team/other", "gone", &image(12)).await;
    let gone = format!("/v2/team/other/manifests/{}", image(12).manifest.digest());
    assert_eq!(client.send(delete(&gone)).await.status, 202);
    client.push_blob("team/app", &image(13).blobs[0]).await;
    server
}

fn run(server: &TestServer, command: &[&str], options: &[&str]) -> Output {
    let output = Command::new(BINARY).args(command).args(options).arg(configuration(server)).output();
    output.expect("run registry-server")
}

fn configuration(server: &TestServer) -> PathBuf {
    server.directory().path().join("config.yml")
}

/// Collects as often as it takes to delete what the first run condemns.
fn collect(server: &TestServer, options: &[&str]) {
    for _ in 0..3 {
        let output = run(server, &["garbage-collect"], &[&NOW, options].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Fails unless the client's registry serves the image whole.
async fn serves(client: &mut Client, name: &str, reference: &str, image: &Image) {
    let path = format!("/v2/{name}/manifests/{reference}");
    let manifest = client.send(get(&path).with("accept", image.manifest.media_type.clone())).await;
    assert_eq!(manifest.body, image.manifest.bytes, "{path}: {manifest}");
    for blob in &image.blobs {
        let answer = client.send(get(&format!("/v2/{name}/blobs/{}", blob.digest()))).await;
        assert_eq!(sha256(&answer.body), blob.digest(), "{path}: {answer}");
    }
}

/// Fails unless distribution serves all that is to be kept, and would collect nothing more with its own options.
async fn in_order_for_the_peer(server: &TestServer, peers_options: &[&str], kind: &str) {
    let root = server.root();
    let peer = Peer::start(&root);
    for (name, tag, seed) in KEPT {
        serves(&mut peer.client(), name, tag, &image(seed)).await;
    }
    drop(peer);
    assert_eq!(found_by_the_peer(server, peers_options), Vec::<String>::new(), "after {kind}");
}

/// What distribution would delete.
fn found_by_the_peer(server: &TestServer, options: &[&str]) -> Vec<String> {
    let told =
        collect_with_peer(Edition::Debian, &server.root(), &[&["--dry-run"], options].concat()).unwrap();
    told.lines().filter(|line| line.contains("eligible for deletion:")).map(str::to_owned).collect()
}

#[tokio::test]
async fn distribution_finds_nothing_more_to_delete_than_a_plain_run_did() {
    let server = with_garbage().await;
    assert!(found_by_the_peer(&server, &[]).len() > 3, "there is something to delete");
    collect(&server, &[]);
    in_order_for_the_peer(&server, &[], "a plain run").await;
    serves(&mut server.client(), "team/app", &image(11).manifest.digest(), &image(11)).await;
}

#[tokio::test]
async fn distribution_finds_nothing_more_to_delete_than_a_run_for_untagged_manifests_did() {
    let server = with_garbage().await;
    collect(&server, &["-m"]);
    in_order_for_the_peer(&server, &["-m"], "a run for untagged manifests").await;
    let untagged = format!("/v2/team/app/manifests/{}", image(11).manifest.digest());
    assert_eq!(server.client().send(get(&untagged)).await.status, 404);
}

#[tokio::test]
async fn distribution_finds_nothing_more_to_delete_than_retention_did() {
    let server = with_garbage().await;
    let rules = server.directory().path().join("retention.yml");
    let keep = "policies:\n- repositories: [team/app]\n  tags: ^v\n  keep: {mostRecentlyPushed: 2}\n";
    fs::write(&rules, keep).unwrap();
    collect(&server, &["-m", "--retention-file", rules.to_str().unwrap()]);
    in_order_for_the_peer(&server, &["-m"], "a run with rules").await;
    let (name, tag, _) = LET_GO;
    let gone = server.client().send(get(&format!("/v2/{name}/manifests/{tag}"))).await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn distribution_serves_the_tree_wherever_a_run_was_interrupted() {
    for moment in [0, 5, 20, 60] {
        let server = with_garbage().await;
        let mut process = Command::new(BINARY)
            .args(["garbage-collect", "-m", "--io-limit", "200"])
            .args(NOW)
            .arg(configuration(&server))
            .spawn()
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(moment)).await;
        process.kill().unwrap();
        process.wait().unwrap();
        let peer = Peer::start(&server.root());
        for (name, tag, seed) in KEPT {
            serves(&mut peer.client(), name, tag, &image(seed)).await;
        }
        drop(peer);
        // The dead run has not given its lease back.
        let _ = fs::remove_file(server.root().join("windlass/lease"));
        collect(&server, &["-m"]);
        in_order_for_the_peer(&server, &["-m"], "an interrupted run and the next ones").await;
    }
}

#[tokio::test]
async fn distribution_serves_what_was_restored() {
    let server = with_garbage().await;
    let condemned = run(&server, &["garbage-collect"], &[&NOW[..], &["-m"]].concat());
    assert!(condemned.status.success(), "{}", String::from_utf8_lossy(&condemned.stderr));
    let restored = run(&server, &["quarantine", "restore", "--config"], &[]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let peer = Peer::start(&server.root());
    let untagged = image(11).manifest.digest();
    serves(&mut peer.client(), "team/app", &untagged, &image(11)).await;
    drop(peer);
    let left = fs::read_dir(server.root().join("windlass/quarantine")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing stays in the quarantine");
}

#[tokio::test]
async fn indexes_and_their_children_stay_where_distribution_would_delete_them() {
    let server = TestServer::start(json!({}));
    let mut client = server.client();
    let (one, other) = (image(1), image(2));
    let index = index_of(OCI_INDEX, &[&one.manifest, &other.manifest]);
    for child in [&one, &other] {
        client.push_image("team/app", &child.manifest.digest(), child).await;
    }
    client.push_manifest("team/app", "multi", &index).await;
    collect(&server, &["-m"]);
    let peer = Peer::start(&server.root());
    let path = "/v2/team/app/manifests/multi";
    let pulled = peer.client().send(get(path).with("accept", OCI_INDEX)).await;
    assert_eq!(pulled.body, index.bytes, "{pulled}");
    for child in [&one, &other] {
        serves(&mut peer.client(), "team/app", &child.manifest.digest(), child).await;
    }
}
