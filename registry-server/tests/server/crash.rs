//! `kill -9` at random moments of pushes: what was acknowledged is there and whole, and the tree is in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::json;

use crate::harness::client::{Answer, Client, LOCATION, Request, get, head, patch, post, put};
use crate::harness::content::{
    Content, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Random, manifest_of, noise, sha256,
};
use crate::harness::peer::Peer;
use crate::harness::server::{SOON, TestServer};
use crate::harness::tree::Tree;

const CRASHES: u64 = 100;
const PUSHERS: u64 = 3;
/// Set to repeat the random choices of a run that failed.
const SEED: &str = "WINDLASS_TEST_SEED";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_hundred_crashes() {
    let seed = std::env::var(SEED).map_or_else(|_| seed_of_now(), |seed| seed.parse().unwrap());
    println!("to repeat this run: {SEED}={seed}");
    let mut random = Random::seeded(seed);
    let mut server = TestServer::start(json!({"log": {"accesslog": {"disabled": true}}}));
    let promised = Arc::new(Mutex::new(Promised::default()));
    for crash in 1..=CRASHES {
        let pushers: Vec<_> = (0..PUSHERS)
            .map(|number| Pusher::new(number, random.next(), server.client(), Arc::clone(&promised)))
            .map(|pusher| tokio::spawn(pusher.push_until_the_server_dies()))
            .collect();
        crash_moment(&promised, &mut random).await;
        server.kill();
        for pusher in pushers {
            pusher.await.unwrap();
        }
        // Reading the tree takes longer than a crash does.
        if crash % 10 == 0 {
            assert_eq!(
                Tree::read(&server.root()).faults(),
                Vec::<String>::new(),
                "after crash {crash}, seed {seed}"
            );
        }
        server = server.beside();
    }
    let promised = Arc::into_inner(promised).unwrap().into_inner().unwrap();
    println!("{} blobs and {} manifests were acknowledged", promised.blobs.len(), promised.manifests.len());
    assert!(promised.manifests.len() > 50, "too few for the test to mean anything");
    promised.kept_by(&mut server.client()).await;
    promised.kept_by(&mut Peer::start(&server.root()).client()).await;
}

/// A random moment, measured in answers and then in time: on a busy machine as much happens as on an idle one.
async fn crash_moment(promised: &Mutex<Promised>, random: &mut Random) {
    let answers = || promised.lock().unwrap().answers;
    let (enough, deadline) = (answers() + random.below(50), Instant::now() + SOON);
    while answers() < enough {
        assert!(Instant::now() < deadline, "the server has stopped to answer");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_micros(random.below(5000))).await;
}

fn seed_of_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What the server has acknowledged.
#[derive(Default)]
struct Promised {
    /// How many requests were answered at all.
    answers: u64,
    /// Repository and digest.
    blobs: BTreeSet<(String, String)>,
    /// Repository and reference, with what the reference may lead to: the manifest acknowledged last, or one of
    /// those that were being pushed over it in a crash since.
    manifests: BTreeMap<(String, String), Vec<String>>,
}

impl Promised {
    async fn kept_by(&self, client: &mut Client) {
        for (name, digest) in &self.blobs {
            let blob = client.send(get(&format!("/v2/{name}/blobs/{digest}"))).await;
            assert_eq!((blob.status, sha256(&blob.body)), (200, digest.clone()), "blob {name}@{digest}");
        }
        for ((name, reference), digests) in &self.manifests {
            let request = get(&format!("/v2/{name}/manifests/{reference}")).with("accept", OCI_MANIFEST);
            let manifest = client.send(request).await;
            assert_eq!(manifest.status, 200, "manifest {name}:{reference}");
            assert!(
                digests.contains(&sha256(&manifest.body)),
                "manifest {name}:{reference} is not {digests:?}"
            );
        }
    }
}

/// A client that pushes image after image, in all the ways of pushing.
struct Pusher {
    number: u64,
    random: Random,
    client: Client,
    promised: Arc<Mutex<Promised>>,
}

impl Pusher {
    fn new(number: u64, seed: u64, client: Client, promised: Arc<Mutex<Promised>>) -> Self {
        Self { number, random: Random::seeded(seed), client, promised }
    }

    async fn push_until_the_server_dies(mut self) {
        // The connection breaks when the server dies, and with it the loop; a refused push breaks the test.
        while let Ok(refused) = self.push_image().await {
            assert!(refused.is_none(), "pusher {}: {}", self.number, refused.unwrap());
        }
    }

    /// Pushes an image, half of whose layers others push as well; gives an unwanted answer.
    async fn push_image(&mut self) -> anyhow::Result<Option<Answer>> {
        let name = format!("crash/{}", self.random.below(2));
        let seed = self.random.next();
        let config = Content::json(OCI_CONFIG, &json!({"seed": self.random.below(5)}));
        let shared = Content::new(OCI_LAYER, noise(self.random.below(40), 10_000));
        let own = match self.random.below(8) {
            0 => vec![Content::new(OCI_LAYER, noise(seed, 200_000))],
            1 | 2 => vec![Content::new(OCI_LAYER, noise(seed, 3000))],
            _ => vec![],
        };
        let layers = [vec![shared], own].concat();
        let mut manifest = manifest_of(OCI_MANIFEST, &config, &layers);
        manifest["annotations"] = json!({"seed": seed.to_string()});
        let manifest = Content::json(OCI_MANIFEST, &manifest);
        for blob in [vec![config], layers].concat() {
            if let Some(refused) = self.push_blob(&name, &blob).await? {
                return Ok(Some(refused));
            }
        }
        let reference = match self.random.below(3) {
            0 => manifest.digest(),
            1 => format!("latest-{}", self.number),
            _ => format!("v{seed}"),
        };
        self.push_manifest(name, reference, &manifest).await
    }

    async fn send(&mut self, request: Request) -> anyhow::Result<Answer> {
        let answer = self.client.try_send(request).await?;
        self.promised.lock().unwrap().answers += 1;
        Ok(answer)
    }

    async fn push_blob(&mut self, name: &str, blob: &Content) -> anyhow::Result<Option<Answer>> {
        let digest = blob.digest();
        let known = self.send(head(&format!("/v2/{name}/blobs/{digest}"))).await?;
        if known.status != 200 {
            let pushed = self.upload(name, &digest, blob.bytes.clone()).await?;
            if pushed.status != 201 {
                return Ok(Some(pushed));
            }
        }
        self.promised.lock().unwrap().blobs.insert((name.to_owned(), digest));
        Ok(None)
    }

    async fn upload(&mut self, name: &str, digest: &str, bytes: Bytes) -> anyhow::Result<Answer> {
        let uploads = format!("/v2/{name}/blobs/uploads/");
        let style = self.random.below(4);
        if style == 0 {
            return self.send(post(&uploads).query("digest", digest).sends(bytes)).await;
        }
        self.send(post(&uploads)).await?;
        let finish = put(LOCATION).query("digest", digest);
        let half = bytes.len() / 2;
        let last: Request = match style {
            1 => finish.sends(bytes),
            2 => {
                self.send(patch(LOCATION).sends(bytes.slice(..half))).await?;
                finish.sends(bytes.slice(half..))
            }
            _ => {
                let pieces: Vec<Bytes> = bytes.chunks(1000).map(Bytes::copy_from_slice).collect();
                self.send(patch(LOCATION).streams(futures::stream::iter(pieces))).await?;
                finish
            }
        };
        self.send(last).await
    }

    async fn push_manifest(
        &mut self,
        name: String,
        reference: String,
        manifest: &Content,
    ) -> anyhow::Result<Option<Answer>> {
        let target = format!("/v2/{name}/manifests/{reference}");
        let place = (name, reference);
        if let Some(digests) = self.promised.lock().unwrap().manifests.get_mut(&place) {
            digests.push(manifest.digest());
        }
        let request = put(&target).with("content-type", OCI_MANIFEST).sends(manifest.bytes.clone());
        let answer = self.send(request).await?;
        if answer.status != 201 {
            return Ok(Some(answer));
        }
        self.promised.lock().unwrap().manifests.insert(place, vec![manifest.digest()]);
        Ok(None)
    }
}
