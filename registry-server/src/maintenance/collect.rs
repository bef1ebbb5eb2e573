//! A run of the garbage collection, beside any number of pushes, deletes, servers and other runs.
//!
//! The order of steps is what makes that safe. Do not change it:
//!
//! 1. List the quarantine. Only what is listed now can be deleted for good by this run.
//! 2. In each repository: tags that the rules let go are condemned, then everything is marked; a tag without its
//!    revision link is healed; of the links listed in 1, live ones are brought back and others deleted when they are
//!    old; links that nothing leads to are condemned.
//! 3. Of the blobs listed in 1, live ones are brought back, others deleted when they are old.
//! 4. Blobs that nothing leads to are condemned when they are old.
//!
//! Why that is safe: a push is acknowledged only after it has found, after its tag was set, all that the tag leads to,
//! outside of the quarantine. A run that deletes something for good has listed it before it marked, and no tag led to it
//! in that mark; so the tag was set after the listing, and the push, which looked later still, found another copy or
//! took that one back. Each run condemns to a place of its own and each thing once, so that nothing else can ever lie
//! where a run has listed something. What a run condemns although a push was acknowledged meanwhile is found there by
//! whoever asks for it, and by the next run's mark.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use futures::StreamExt;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::digest_set::{DigestSet, Hash, SortedDigests};
use super::lease::Lease;
use super::pace::Pace;
use super::report::{Action, Item, Kind, Summary};
use super::repository::{Context, Visit, visit};
use super::survey::is_old;
use super::{Error, Options, Result, causes};
use crate::registry::{Instance, Registry};
use crate::storage::{Condemned, Key};
use crate::types::{Digest, RepositoryName, RunId};

/// How many repositories are visited at a time. More would take the processor from those who pull.
const VISITS: usize = 2;

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something was done.
    Did(&'a Item),
    /// Something cannot be read, and is kept with all that it could lead to.
    Warning(&'a str),
    /// So many repositories of all are marked.
    Marked(usize, usize),
    /// So many parts of the blobs of all are swept.
    Swept(usize, usize),
}

/// One run.
#[derive(Debug)]
pub struct Collection {
    context: Arc<Context>,
    pace: Arc<Pace>,
    summary: Summary,
}

/// What a run found in the quarantine when it began.
#[derive(Debug, Default)]
struct Listed {
    runs: Vec<ListedRun>,
    links: HashMap<RepositoryName, Vec<Instance>>,
}

#[derive(Debug)]
struct ListedRun {
    run: RunId,
    /// Blobs and their sizes, in byte order.
    blobs: Vec<(Hash, u64)>,
}

impl Collection {
    /// A run that begins now.
    #[must_use]
    pub fn new(registry: &Registry, options: Options) -> Self {
        let run = RunId::now();
        let pace = Pace::new(options.time_budget, options.io_limit);
        let summary = Summary {
            run: run.to_string(),
            started: Timestamp::now(),
            dry_run: options.dry_run,
            ..Summary::default()
        };
        let now = SystemTime::now();
        let context = Context { registry: registry.clone(), options, run, now, condemns: true };
        Self { context: Arc::new(context), pace: Arc::new(pace), summary }
    }

    /// The same run, but it condemns nothing: it only settles what has been condemned.
    pub(super) fn only_quarantine(mut self) -> Self {
        if let Some(context) = Arc::get_mut(&mut self.context) {
            context.condemns = false;
        }
        self
    }

    /// What ends the run early, in good order, when it is cancelled.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.pace.stop().clone()
    }

    /// What was done so far.
    #[must_use]
    pub fn summary(mut self) -> Summary {
        self.summary.finished = Timestamp::now();
        self.summary
    }

    /// Runs to the end, or to that of the time budget.
    ///
    /// # Errors
    /// [`Error::Busy`] when another run holds the lease, [`Error::Stopped`], and those of the storage. What was done
    /// until then is done, and nothing is lost; the next run goes on.
    pub async fn run(&mut self, observe: &mut (dyn FnMut(Event<'_>) + Send)) -> Result<()> {
        let context = Arc::clone(&self.context);
        if context.options.dry_run {
            return self.collect(None, observe).await;
        }
        let lease = Lease::take(&context.registry, context.run).await?;
        context.registry.remove_scratch(None).await?;
        let collected = self.collect(Some(&lease), observe).await;
        lease.release().await;
        collected
    }

    async fn collect(
        &mut self,
        lease: Option<&Lease>,
        observe: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<()> {
        let listed = self.list_quarantine().await?;
        let live = self.mark(&listed, lease, observe).await?;
        if let Some(live) = live {
            let live = live.finish();
            self.settle_blobs(&listed, &live, observe).await?;
            self.summary.complete = self.sweep(&live, lease, observe).await?;
        }
        self.tidy(&listed).await?;
        if self.summary.complete || !self.pace.stop().is_cancelled() { Ok(()) } else { Err(Error::Stopped) }
    }

    async fn list_quarantine(&mut self) -> Result<Listed> {
        let registry = &self.context.registry;
        let mut listed = Listed::default();
        for run in registry.quarantine_runs().await? {
            let mut blobs = Vec::new();
            for instance in registry.condemned_by(&run).await? {
                match &instance.condemned {
                    Condemned::Blob(digest) => {
                        blobs.extend(digest.sha256().map(|hash| (hash, instance.size)));
                    }
                    Condemned::Layer(name, _) | Condemned::Revision(name, _) | Condemned::Tag(name, ..) => {
                        listed.links.entry(name.clone()).or_default().push(instance);
                    }
                }
            }
            blobs.sort_unstable();
            self.summary.blobs_quarantined += blobs.len() as u64;
            self.summary.bytes_quarantined += blobs.iter().map(|(_, size)| size).sum::<u64>();
            listed.runs.push(ListedRun { run, blobs });
        }
        Ok(listed)
    }

    /// Visits every repository; `None` when what is live could not be found out, so that no blob may go.
    async fn mark(
        &mut self,
        listed: &Listed,
        lease: Option<&Lease>,
        observe: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<Option<DigestSet>> {
        let registry = &self.context.registry;
        let mut names = registry.repositories().await?;
        names.extend(listed.links.keys().cloned());
        names.sort_unstable();
        names.dedup();
        let all = names.len();
        let mut live = Some(DigestSet::new(Arc::clone(registry.storage()), self.context.run));
        let visits = names.into_iter().map(|name| {
            let quarantined = listed.links.get(&name).cloned().unwrap_or_default();
            spawn_visit(Arc::clone(&self.context), Arc::clone(&self.pace), name, quarantined)
        });
        let mut visits = futures::stream::iter(visits).buffered(VISITS);
        let mut done = 0;
        while let Some((name, visited)) = visits.next().await {
            if lease.is_some_and(Lease::is_lost) {
                return Err(Error::LeaseLost);
            }
            match visited {
                Some(Ok(visit)) => {
                    visit.count(&mut self.summary);
                    visit.items.iter().for_each(|item| observe(Event::Did(item)));
                    visit.warnings.iter().for_each(|warning| observe(Event::Warning(warning)));
                    if let Some(live) = &mut live {
                        live.extend(visit.live).await?;
                    }
                }
                Some(Err(error)) => {
                    let warning = format!("{name}: {}; no blob is collected", causes(&error));
                    self.summary.warn(&warning);
                    observe(Event::Warning(&warning));
                    live = None;
                }
                None => live = None,
            }
            done += 1;
            observe(Event::Marked(done, all));
        }
        Ok(live)
    }

    /// Of the blobs that were in the quarantine before the mark: brings back what is live, deletes what is old.
    async fn settle_blobs(
        &mut self,
        listed: &Listed,
        live: &SortedDigests,
        observe: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<()> {
        let context = Arc::clone(&self.context);
        let (registry, options) = (&context.registry, &context.options);
        for ListedRun { run, blobs } in &listed.runs {
            let mut live = live.cursor();
            let is_old = is_old(Some(run.began()), options.grace_period, context.now);
            for (hash, size) in blobs.iter().take_while(|_| !self.pace.is_over()) {
                let digest = Digest::from_sha256(hash);
                let is_live = live.find(hash)?.is_some();
                if !is_live && !is_old {
                    continue;
                }
                self.pace.pay(1).await;
                let done = if options.dry_run {
                    true
                } else if is_live {
                    registry.revive_from(run, Key::BlobData(&digest)).await?
                } else {
                    let condemned = Condemned::Blob(digest.clone());
                    registry.reclaim(&Instance { run: *run, condemned, size: *size }).await?
                };
                // Otherwise somebody else was quicker.
                self.summary.blobs_quarantined -= 1;
                self.summary.bytes_quarantined -= size;
                if !done {
                    continue;
                }
                let (action, why) = if is_live {
                    self.summary.blobs_revived += 1;
                    (Action::Revive, "it is in use again")
                } else {
                    self.summary.blobs_deleted += 1;
                    self.summary.bytes_reclaimed += size;
                    (Action::Delete, "its time in the quarantine is over")
                };
                observe(Event::Did(&blob_item(action, digest, *size, why)));
            }
        }
        Ok(())
    }

    /// Condemns the blobs that are not live and old; `false` when the time was over before all was done.
    async fn sweep(
        &mut self,
        live: &SortedDigests,
        lease: Option<&Lease>,
        observe: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<bool> {
        let mut live = live.cursor();
        let context = Arc::clone(&self.context);
        let shards = (0..=u8::MAX).map(|byte| {
            let registry = &context.registry;
            async move { (byte, registry.blob_shard(byte).await) }
        });
        let mut shards = futures::stream::iter(shards).buffered(VISITS);
        while let Some((byte, shard)) = shards.next().await {
            if self.pace.is_over() {
                return Ok(false);
            }
            if lease.is_some_and(Lease::is_lost) {
                return Err(Error::LeaseLost);
            }
            let hashes = shard?;
            self.pace.pay(hashes.len() / 64 + 1).await;
            for hash in hashes {
                match live.find(&hash)? {
                    Some(size) if size > 0 => self.keep(size),
                    known => self.judge(&hash, known.is_some(), observe).await?,
                }
            }
            observe(Event::Swept(usize::from(byte) + 1, usize::from(u8::MAX) + 1));
        }
        Ok(true)
    }

    fn keep(&mut self, size: u64) {
        self.summary.blobs += 1;
        self.summary.bytes += size;
    }

    /// Looks at a blob that is not known to be live, or of which no manifest says the size.
    async fn judge(
        &mut self,
        hash: &Hash,
        is_live: bool,
        observe: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<()> {
        let context = Arc::clone(&self.context);
        let Context { registry, options, run, now, condemns } = &*context;
        let digest = Digest::from_sha256(hash);
        self.pace.pay(1).await;
        let blob = match registry.stored_blob(&digest).await {
            Ok(Some(blob)) => blob,
            // Only its directory is left.
            Ok(None) if options.dry_run => return Ok(()),
            Ok(None) => return Ok(registry.prune_blob(&digest).await?),
            Err(error) => {
                let warning = format!("blob {digest} is left alone: {}", causes(&error));
                self.summary.warn(&warning);
                observe(Event::Warning(&warning));
                return Ok(());
            }
        };
        if is_live || !condemns || !is_old(Some(blob.modified), options.grace_period, *now) {
            self.keep(blob.size);
            return Ok(());
        }
        if !options.dry_run {
            if !registry.condemn(run, Key::BlobData(&digest)).await? {
                return Ok(());
            }
            registry.prune_blob(&digest).await?;
        }
        self.summary.blobs_condemned += 1;
        self.summary.bytes_condemned += blob.size;
        self.summary.blobs_quarantined += 1;
        self.summary.bytes_quarantined += blob.size;
        observe(Event::Did(&blob_item(Action::Condemn, digest, blob.size, "nothing leads to it")));
        Ok(())
    }

    /// Removes what the run, and runs that have died, leave behind.
    async fn tidy(&self, listed: &Listed) -> Result<()> {
        let Context { registry, options, run, .. } = &*self.context;
        if !options.dry_run {
            for ListedRun { run, .. } in &listed.runs {
                registry.prune_quarantine(run).await?;
            }
        }
        Ok(registry.remove_scratch(Some(run)).await?)
    }
}

/// Visits a repository on a thread of its own; `None` when the time is over.
async fn spawn_visit(
    context: Arc<Context>,
    pace: Arc<Pace>,
    name: RepositoryName,
    quarantined: Vec<Instance>,
) -> (RepositoryName, Option<crate::registry::Result<Visit>>) {
    if pace.is_over() {
        return (name, None);
    }
    let (own, budget) = (name.clone(), Arc::clone(&pace));
    let visiting = tokio::spawn(async move {
        let visited = visit(&context, &own, &quarantined).await;
        if let Ok(visit) = &visited {
            budget.pay(visit.operations).await;
        }
        visited
    });
    match visiting.await {
        Ok(visited) => (name, Some(visited)),
        Err(_) => (name, None),
    }
}

fn blob_item(action: Action, digest: Digest, bytes: u64, why: &str) -> Item {
    Item {
        action,
        kind: Kind::Blob,
        repository: None,
        tag: None,
        digest: Some(digest),
        bytes: Some(bytes),
        why: why.to_owned(),
    }
}
