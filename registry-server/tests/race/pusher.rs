//! A client that does what clients do, in a random order, and knows what to expect of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::audit::pull;
use crate::harness::client::{Answer, Client, LOCATION, Request, delete, get, head, post, put};
use crate::harness::content::{Content, Random};
use crate::oracle::{Oracle, Place};
use crate::package::Package;
use crate::servers::{Course, Servers};

const REPOSITORIES: [&str; 3] = ["race/a", "race/b", "race/b/nested"];
/// How many tags a pusher has in each repository.
const TAGS: u64 = 6;
/// How many packages a pusher can push again.
const REMEMBERED: usize = 40;
/// How often it begins anew when a server has lost what it has just been told to have.
const ATTEMPTS: usize = 4;

/// Why a pusher stops.
pub(crate) enum Stop {
    /// The connection broke: somebody has killed the server.
    Unanswered,
    /// A promise is broken.
    Broken(String),
}

/// What all pushers did.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) pushes: AtomicU64,
    pub(crate) blobs_found: AtomicU64,
    pub(crate) mounts: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) deletions: AtomicU64,
    pub(crate) pulls: AtomicU64,
    pub(crate) unanswered: AtomicU64,
}

/// A client with tags that nobody else writes.
pub(crate) struct Pusher {
    number: u64,
    random: Random,
    servers: Arc<Servers>,
    counts: Arc<Counts>,
    client: Client,
    packages: Vec<(String, Package)>,
    pub(crate) oracle: Oracle,
}

type Done<T = ()> = Result<T, Stop>;

impl Pusher {
    pub(crate) fn new(number: u64, seed: u64, servers: &Arc<Servers>, counts: &Arc<Counts>) -> Self {
        let mut random = Random::seeded(seed);
        let client = servers.any(&mut random);
        let (servers, counts) = (Arc::clone(servers), Arc::clone(counts));
        Self { number, random, servers, counts, client, packages: Vec::new(), oracle: Oracle::default() }
    }

    /// Goes on until the race is over; gives the promise that was broken, if one was.
    pub(crate) async fn work(mut self, course: Arc<Course>) -> (Self, Option<String>) {
        while !course.is_over() {
            match self.one_thing().await {
                Ok(()) => {}
                Err(Stop::Broken(promise)) => {
                    course.end();
                    return (self, Some(promise));
                }
                Err(Stop::Unanswered) => {
                    self.counts.unanswered.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    self.client = self.servers.any(&mut self.random);
                }
            }
        }
        (self, None)
    }

    async fn one_thing(&mut self) -> Done {
        // What nobody knows about is settled first, or it would keep the collector from its work.
        if let Some(place) = self.oracle.uncertain().first() {
            return self.delete_tag(&place.clone()).await;
        }
        let place = self.place();
        match self.random.below(16) {
            0..4 => {
                let package = Package::image(&mut self.random);
                self.push(&place, &package).await
            }
            4..6 => {
                let package = Package::index(&mut self.random);
                self.push(&place, &package).await
            }
            6..10 => match self.remembered() {
                Some((_, package)) => self.push(&place, &package).await,
                None => Ok(()),
            },
            10..12 => self.delete_a_manifest().await,
            12 => match self.one_certain() {
                Some((place, _)) => self.delete_tag(&place).await,
                None => Ok(()),
            },
            13 => self.retag(place.1).await,
            14 => self.push_against_deletion(place.1).await,
            _ => match self.one_certain() {
                Some((place, digest)) => self.pull(&place, &digest).await,
                None => Ok(()),
            },
        }
    }

    fn place(&mut self) -> Place {
        let repository = REPOSITORIES[usize::try_from(self.random.below(3)).expect("small")];
        (repository.to_owned(), format!("p{}-{}", self.number, self.random.below(TAGS)))
    }

    fn remembered(&mut self) -> Option<(String, Package)> {
        pick(&mut self.random, &self.packages).cloned()
    }

    fn one_certain(&mut self) -> Option<(Place, String)> {
        pick(&mut self.random, &self.oracle.certain()).cloned()
    }

    /// Pushes a package as clients do: nothing is sent that is there already.
    async fn push(&mut self, place: &Place, package: &Package) -> Done {
        for attempt in 0..ATTEMPTS {
            for blob in &package.blobs {
                self.push_blob(&place.0, blob, attempt > 0).await?;
            }
            let mut refused = false;
            for child in &package.children {
                let there = attempt == 0
                    && self.ask(head(&manifest_at(&place.0, &child.digest()))).await?.status == 200;
                refused |= !there && !self.put_manifest(&place.0, &child.digest(), child).await?;
            }
            if !refused && self.put_tag(place, &package.manifest).await? {
                self.packages.push((place.0.clone(), package.clone()));
                if self.packages.len() > REMEMBERED {
                    self.packages.remove(0);
                }
                return if self.random.below(2) == 0 {
                    self.pull(place, &package.manifest.digest()).await
                } else {
                    Ok(())
                };
            }
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn push_blob(&mut self, repository: &str, blob: &Content, anyway: bool) -> Done {
        let digest = blob.digest();
        if !anyway && self.ask(head(&format!("/v2/{repository}/blobs/{digest}"))).await?.status == 200 {
            self.counts.blobs_found.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let mut start = post(&uploads);
        if !anyway {
            let from = REPOSITORIES[usize::try_from(self.random.below(3)).expect("small")];
            start = start.query("mount", &digest).query("from", from);
        }
        let started = self.ask(start).await?;
        match started.status {
            201 => {
                self.counts.mounts.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            202 => {
                let finish = put(LOCATION).query("digest", &digest).sends(blob.bytes.clone());
                self.expect(finish, &[201]).await.map(|_| ())
            }
            _ => Err(unexpected(&uploads, &started)),
        }
    }

    /// Whether the server took it, rather than missing something.
    async fn put_manifest(&mut self, repository: &str, reference: &str, manifest: &Content) -> Done<bool> {
        let request = put(&manifest_at(repository, reference))
            .with("content-type", manifest.media_type.clone())
            .sends(manifest.bytes.clone());
        let answer = self.expect(request, &[201, 400]).await?;
        if answer.status == 400 && answer.codes().iter().any(|code| code != "MANIFEST_BLOB_UNKNOWN") {
            return Err(unexpected(reference, &answer));
        }
        Ok(answer.status == 201)
    }

    async fn put_tag(&mut self, place: &Place, manifest: &Content) -> Done<bool> {
        self.oracle.pushing(place, &manifest.digest());
        let taken = self.put_manifest(&place.0, &place.1, manifest).await?;
        if taken {
            self.counts.pushes.fetch_add(1, Ordering::Relaxed);
            self.oracle.pushed(place, &manifest.digest());
        }
        Ok(taken)
    }

    async fn delete_tag(&mut self, place: &Place) -> Done {
        self.oracle.deleting(place);
        self.expect(delete(&manifest_at(&place.0, &place.1)), &[202, 404]).await?;
        self.oracle.deleted(place);
        self.counts.deletions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn delete_a_manifest(&mut self) -> Done {
        let Some(((repository, _), digest)) = self.one_certain() else { return Ok(()) };
        self.oracle.deleting_manifest(&repository, &digest);
        self.expect(delete(&manifest_at(&repository, &digest)), &[202]).await?;
        self.oracle.deleted_manifest(&repository, &digest);
        self.counts.deletions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Gives what one tag names another tag.
    async fn retag(&mut self, tag: String) -> Done {
        let Some(((repository, _), digest)) = self.one_certain() else { return Ok(()) };
        let manifest = self.manifest(&repository, &digest).await?;
        self.put_tag(&(repository, tag), &manifest).await.map(|_| ())
    }

    /// Deletes a manifest, and at the same time gives it another tag.
    async fn push_against_deletion(&mut self, tag: String) -> Done {
        let Some(((repository, _), digest)) = self.one_certain() else { return Ok(()) };
        let manifest = self.manifest(&repository, &digest).await?;
        let place = (repository.clone(), tag);
        self.oracle.pushing(&place, &digest);
        self.oracle.deleting_manifest(&repository, &digest);
        let mut other = self.servers.any(&mut self.random);
        let push = put(&manifest_at(&repository, &place.1))
            .with("content-type", manifest.media_type)
            .sends(manifest.bytes);
        let deletion = delete(&manifest_at(&repository, &digest));
        let (pushed, deleted) = tokio::join!(other.try_send(push), self.client.try_send(deletion));
        let (Ok(pushed), Ok(deleted)) = (pushed, deleted) else { return Err(Stop::Unanswered) };
        match (pushed.status, deleted.status) {
            (201, 202) => {
                self.oracle.deleted_manifest(&repository, &digest);
                self.oracle.pushed_or_deleted(&place, &digest);
                self.pull_if_there(&place).await
            }
            // Refused: it is not known what the tag names, and it will be deleted.
            (400, 202) => {
                self.oracle.deleted_manifest(&repository, &digest);
                self.oracle.pushing(&place, &digest);
                Ok(())
            }
            (_, 202) => Err(unexpected("push", &pushed)),
            _ => Err(unexpected("delete", &deleted)),
        }
    }

    async fn manifest(&mut self, repository: &str, digest: &str) -> Done<Content> {
        let answer = self.expect(get(&manifest_at(repository, digest)), &[200]).await?;
        let media_type = answer.header("content-type").unwrap_or_default().to_owned();
        Ok(Content { media_type, bytes: answer.body })
    }

    async fn pull(&mut self, place: &Place, digest: &str) -> Done {
        self.counts.pulls.fetch_add(1, Ordering::Relaxed);
        match pull(&mut self.client, &place.0, &place.1).await {
            Ok(found) if found.as_deref() == Some(digest) => Ok(()),
            Ok(found) => Err(Stop::Broken(format!("{place:?} is {found:?}, not {digest}"))),
            Err(stop) => Err(stop),
        }
    }

    async fn pull_if_there(&mut self, place: &Place) -> Done {
        pull(&mut self.client, &place.0, &place.1).await.map(|_| ())
    }

    async fn expect(&mut self, request: Request, statuses: &[u16]) -> Done<Answer> {
        let shown = request.to_string();
        let answer = self.ask(request).await?;
        if statuses.contains(&answer.status) { Ok(answer) } else { Err(unexpected(&shown, &answer)) }
    }

    async fn ask(&mut self, request: Request) -> Done<Answer> {
        self.client.try_send(request).await.map_err(|_| Stop::Unanswered)
    }
}

fn unexpected(what: &str, answer: &Answer) -> Stop {
    Stop::Broken(format!("{what}: {answer}"))
}

pub(crate) fn manifest_at(repository: &str, reference: &str) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

fn pick<'a, T>(random: &mut Random, from: &'a [T]) -> Option<&'a T> {
    let length = u64::try_from(from.len()).expect("small");
    (length > 0).then(|| &from[usize::try_from(random.below(length)).expect("small")])
}
