//! One tree, both ways: Debian's `docker-registry` (CNCF distribution 2.8) serves and extends what ours wrote,
//! and ours serves and extends what it wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::client::{Client, LOCATION, delete, get, head, patch, post, put};
use crate::harness::content::{
    Content, DOCKER_LIST, DOCKER_MANIFEST, Image, OCI_INDEX, OCI_LAYER, image, index_of, manifest_of, noise,
    sha256,
};
use crate::harness::peer::{Peer, SECRET};
use crate::harness::server::{TestServer, root_in};
use crate::harness::tree::Tree;

/// What is pushed to both: an OCI image, a Docker image, an index and a list over them, tags that move.
struct Corpus {
    oci: Image,
    docker: Image,
    index: Content,
    list: Content,
}

/// Every manifest that the corpus leaves reachable: repository, reference, manifest.
type Expected<'a> = Vec<(&'static str, String, &'a Content)>;

impl Corpus {
    fn new() -> Self {
        let (oci, mut docker) = (image(1), image(2));
        for (blob, media_type) in docker.blobs.iter_mut().zip([
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ]) {
            media_type.clone_into(&mut blob.media_type);
        }
        let manifest = manifest_of(DOCKER_MANIFEST, &docker.blobs[0], &docker.blobs[1..]);
        docker.manifest = Content::json(DOCKER_MANIFEST, &manifest);
        let index = index_of(OCI_INDEX, &[&oci.manifest]);
        let list = index_of(DOCKER_LIST, &[&docker.manifest]);
        Self { oci, docker, index, list }
    }

    async fn push(&self, client: &mut Client) {
        client.push_image("team/app", "v1", &self.oci).await;
        client.push_image("team/app", "latest", &self.docker).await;
        client.push_manifest("team/app", "latest", &self.oci.manifest).await;
        client.push_manifest("team/app", "multi", &self.index).await;
        client.push_image("team/app/nested", "v1", &self.docker).await;
        client.push_manifest("team/app/nested", &self.list.digest(), &self.list).await;
        client.push_image("team-app", "gone", &self.oci).await;
        client.push_image("team-app", "v2", &self.docker).await;
        let gone = format!("/v2/team-app/manifests/{}", self.oci.manifest.digest());
        assert_eq!(client.send(delete(&gone)).await.status, 202);
    }

    fn expected(&self) -> Expected<'_> {
        vec![
            ("team/app", "v1".into(), &self.oci.manifest),
            ("team/app", "latest".into(), &self.oci.manifest),
            ("team/app", "multi".into(), &self.index),
            ("team/app", self.docker.manifest.digest(), &self.docker.manifest),
            ("team/app/nested", "v1".into(), &self.docker.manifest),
            ("team/app/nested", self.list.digest(), &self.list),
            ("team-app", "v2".into(), &self.docker.manifest),
        ]
    }

    /// Fails unless the registry serves all of it, and lists it.
    async fn is_served_by(&self, client: &mut Client) {
        for (name, reference, manifest) in self.expected() {
            let request =
                get(&format!("/v2/{name}/manifests/{reference}")).with("accept", &manifest.media_type);
            let answer = client.send(request).await;
            assert_eq!(
                answer.header("content-type"),
                Some(&*manifest.media_type),
                "{name}:{reference}: {answer}"
            );
            assert_eq!(
                answer.header("docker-content-digest"),
                Some(&*manifest.digest()),
                "{name}:{reference}"
            );
            assert_eq!(answer.body, manifest.bytes, "{name}:{reference}");
        }
        for (name, image) in
            [("team/app", &self.oci), ("team/app/nested", &self.docker), ("team-app", &self.docker)]
        {
            for blob in &image.blobs {
                let answer = client.send(get(&format!("/v2/{name}/blobs/{}", blob.digest()))).await;
                assert_eq!(sha256(&answer.body), blob.digest(), "{name}: {answer}");
            }
        }
        let gone = client.send(head("/v2/team-app/manifests/gone")).await;
        assert_eq!(gone.status, 404);
        let mut tags = client.send(get("/v2/team/app/tags/list")).await.json();
        // Distribution 2.8 gives the order in which it read the directory.
        tags["tags"].as_array_mut().unwrap().sort_by_key(|tag| tag.as_str().map(str::to_owned));
        assert_eq!(tags, json!({"name": "team/app", "tags": ["latest", "multi", "v1"]}));
        let catalog = client.send(get("/v2/_catalog")).await.json();
        let mut names: Vec<&str> =
            catalog["repositories"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["team-app", "team/app", "team/app/nested"]);
    }
}

#[tokio::test]
async fn both_write_the_same_tree_and_serve_each_others() {
    let corpus = Corpus::new();
    let ours = TestServer::start(json!({}));
    corpus.push(&mut ours.client()).await;
    let peers_directory = Arc::new(TempDir::new().unwrap());
    let peers_root = root_in(peers_directory.path());
    let peer = Peer::start(&peers_root);
    corpus.push(&mut peer.client()).await;

    let (our_tree, peers_tree) = (Tree::read(&ours.root()), Tree::read(&peers_root));
    assert_same(&our_tree.finished(), &peers_tree.finished());
    assert_eq!(our_tree.faults(), Vec::<String>::new());

    drop(peer);
    let ours_on_the_peers_tree = TestServer::start_in(&peers_directory, json!({}));
    let peer_on_our_tree = Peer::start(&ours.root());
    corpus.is_served_by(&mut ours_on_the_peers_tree.client()).await;
    corpus.is_served_by(&mut peer_on_our_tree.client()).await;
    extended_by_the_other(&mut ours.client(), &mut peer_on_our_tree.client()).await;
}

/// Fails with the paths in which the trees differ, rather than with both trees.
fn assert_same(ours: &BTreeMap<&str, &[u8]>, peers: &BTreeMap<&str, &[u8]>) {
    let missing: Vec<_> = peers.keys().filter(|path| !ours.contains_key(*path)).collect();
    let extra: Vec<_> = ours.keys().filter(|path| !peers.contains_key(*path)).collect();
    let other: Vec<_> =
        ours.iter().filter(|(path, bytes)| peers.get(*path).is_some_and(|peers| peers != *bytes)).collect();
    assert!(
        missing.is_empty() && extra.is_empty() && other.is_empty(),
        "only in the peer's: {missing:#?}\nonly in ours: {extra:#?}\nother content: {other:#?}"
    );
}

/// While both run on one tree, each sees what the other pushes and deletes.
async fn extended_by_the_other(ours: &mut Client, peers: &mut Client) {
    let (from_us, from_peer) = (image(10), image(11));
    ours.push_image("team/app", "ours", &from_us).await;
    peers.push_image("team/app", "peers", &from_peer).await;
    for (client, tag, image) in [(&mut *peers, "ours", &from_us), (&mut *ours, "peers", &from_peer)] {
        let path = format!("/v2/team/app/manifests/{tag}");
        let pulled = client.send(get(&path).with("accept", &image.manifest.media_type)).await;
        assert_eq!(pulled.body, image.manifest.bytes, "{tag}: {pulled}");
        let deletion = delete(&format!("/v2/team/app/manifests/{}", image.manifest.digest()));
        assert_eq!(client.send(deletion).await.status, 202, "{tag}");
    }
    for (client, tag, image) in [(ours, "ours", &from_us), (peers, "peers", &from_peer)] {
        for reference in [tag, &image.manifest.digest()] {
            let request = get(&format!("/v2/team/app/manifests/{reference}"));
            let gone = client.send(request.with("accept", &image.manifest.media_type)).await;
            assert_eq!(gone.status, 404, "{reference}");
        }
    }
}

#[tokio::test]
async fn an_upload_begun_on_one_is_finished_on_the_other() {
    let ours = TestServer::start(json!({}));
    let peer = Peer::start(&ours.root());
    let blob = Content::new(OCI_LAYER, noise(20, 100_000));
    let (mut our_client, mut peers_client) = (ours.client(), peer.client());

    begin(&mut our_client, &blob, "team/begun-on-ours").await;
    let session = session_of(&our_client);
    peers_client
        .continue_at(&format!("/v2/team/begun-on-ours/blobs/uploads/{session}?_state={}", state(&session)));
    finish(&mut peers_client, &blob).await;
    assert_eq!(our_client.send(get(peers_client.location())).await.body, blob.bytes);

    let blob = Content::new(OCI_LAYER, noise(21, 100_000));
    begin(&mut peers_client, &blob, "team/begun-on-peer").await;
    our_client.continue_at(&format!("/v2/team/begun-on-peer/blobs/uploads/{}", session_of(&peers_client)));
    finish(&mut our_client, &blob).await;
    assert_eq!(peers_client.send(get(our_client.location())).await.body, blob.bytes);
}

async fn begin(client: &mut Client, blob: &Content, name: &str) {
    assert_eq!(client.send(post(&format!("/v2/{name}/blobs/uploads/"))).await.status, 202);
    assert_eq!(client.send(patch(LOCATION).sends(blob.bytes.slice(..60_000))).await.status, 202);
}

async fn finish(client: &mut Client, blob: &Content) {
    let rest = patch(LOCATION).with("content-range", "60000-99999").sends(blob.bytes.slice(60_000..));
    let answer = client.send(rest.with("content-type", "application/octet-stream")).await;
    assert_eq!(answer.status, 202, "{answer}");
    let answer = client.send(put(LOCATION).query("digest", &blob.digest())).await;
    assert_eq!(answer.status, 201, "{answer}");
}

fn session_of(client: &Client) -> String {
    let (_, session) = client.location().split_once("/uploads/").unwrap();
    session.split('?').next().unwrap().to_owned()
}

/// The state of an upload as distribution signs it into its URL: a MAC, then what it is about.
fn state(session: &str) -> String {
    let state = json!({
        "Name": "team/begun-on-ours", "UUID": session, "Offset": 60_000, "StartedAt": "2026-01-01T00:00:00Z",
    });
    let state = state.to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    URL_SAFE.encode([hmac::sign(&key, state.as_bytes()).as_ref(), state.as_bytes()].concat())
}
