//! Garbage is collected all the time while images are pushed, pulled, tagged and deleted, and whoever takes part is
//! killed or stopped at any moment. In the end every push that was acknowledged and not deleted pulls whole, and
//! no byte is left that no tag leads to.
//!
//! Built with the feature `without-second-check`, in which a push does not look again once its tag is set, the same
//! race must lose a push: this is how we know that it would find such a fault.

#![expect(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "these are tests")]

mod audit;
#[expect(dead_code, reason = "the chapters of tests/server use all of it")]
#[path = "../server/harness/mod.rs"]
mod harness;
mod oracle;
mod package;
mod pusher;
mod servers;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::client::delete;
use harness::content::Random;
use pusher::{Counts, Pusher, Stop, manifest_at};
use servers::{Course, Servers, collect, wait};

/// How long the race lasts, in seconds.
const SECONDS: &str = "WINDLASS_RACE_SECONDS";
/// Set to repeat the random choices of a race that failed.
const SEED: &str = "WINDLASS_TEST_SEED";
const PUSHERS: u64 = 4;
/// How many runs may follow each other until nothing is left to do: one condemns, the next one deletes.
const LAST_RUNS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_push_is_lost_and_no_garbage_stays() {
    let seed = number(SEED).unwrap_or_else(now);
    println!("to repeat this race: {SEED}={seed}");
    let lost = race(seed).await;
    println!("{}", lost.as_deref().unwrap_or("nothing is lost"));
    assert_eq!(lost.is_some(), cfg!(feature = "without-second-check"), "see what is printed");
}

/// Gives the promise that was broken, if one was.
async fn race(seed: u64) -> Option<String> {
    let mut random = Random::seeded(seed);
    let (servers, counts) = (Servers::start(), Arc::new(Counts::default()));
    let course = Course::new(Duration::from_secs(number(SECONDS).unwrap_or(60)));
    let torment = tokio::spawn(Arc::clone(&servers).torment(random.next(), Arc::clone(&course)));
    let collector = tokio::spawn(collect(Arc::clone(&servers), random.next(), Arc::clone(&course)));
    let pushers: Vec<_> = (0..PUSHERS)
        .map(|number| Pusher::new(number, random.next(), &servers, &counts))
        .map(|pusher| tokio::spawn(pusher.work(Arc::clone(&course))))
        .collect();
    let mut done = Vec::new();
    let mut lost = None;
    for pusher in pushers {
        let (pusher, broken) = pusher.await.expect("a pusher ends");
        lost = lost.or(broken);
        done.push(pusher);
    }
    let (kills, stops) = torment.await.expect("it ends");
    let runs = collector.await.expect("every run ends well");
    println!("{counts:?}\n{runs:?}, servers killed {kills} and stopped {stops} times");
    let lost = match lost {
        Some(lost) => Some(lost),
        None => finish(&servers, &done).await,
    };
    lost.map(|lost| format!("{lost}\nwhat went wrong on the servers:\n{}", servers.troubles()))
}

/// Looks at all that was promised, and then at what is left when only that is kept.
async fn finish(servers: &Servers, pushers: &[Pusher]) -> Option<String> {
    let mut client = servers.client(0);
    for (place, belief) in pushers.iter().flat_map(|pusher| pusher.oracle.tags()) {
        let found = match audit::pull(&mut client, &place.0, &place.1).await {
            Ok(found) => found,
            Err(Stop::Broken(_)) if !belief.whole => {
                // Nobody has acknowledged it.
                client.send(delete(&manifest_at(&place.0, &place.1))).await;
                continue;
            }
            Err(Stop::Broken(promise)) => return Some(format!("{place:?} should be {belief:?}: {promise}")),
            Err(Stop::Unanswered) => panic!("nobody kills servers any more"),
        };
        if !belief.names.contains(&found) {
            return Some(format!("{place:?} is {found:?}, not {belief:?}"));
        }
    }
    collect_all(servers).await;
    let left = audit::unreachable(&servers.root());
    (!left.is_empty()).then(|| format!("{} files are left that no tag leads to: {left:#?}", left.len()))
}

/// Collects until nothing changes any more, with no time for anything to be young.
async fn collect_all(servers: &Servers) {
    // Upload sessions whose server was killed are to be old enough, too.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut before = audit::files(&servers.root());
    for _ in 0..LAST_RUNS {
        let mut run = servers.collector(&["--grace-period", "0s", "--uploads-older-than", "1s"]);
        assert!(wait(&mut run).await, "{}", servers.collectors_log());
        let after = audit::files(&servers.root());
        if after == before && !after.iter().any(|path| path.starts_with("windlass")) {
            return;
        }
        before = after;
    }
    panic!("{LAST_RUNS} runs have not come to an end");
}

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect("a number"))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}
