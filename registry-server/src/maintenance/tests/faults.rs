//! Runs that fail, or die, at each of their operations on the storage. Nothing that is in use is ever lost, and the
//! next run ends where an undisturbed one does.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{HOUR, House, house, keep_newest, name, options, sha256};
use crate::config::Protection;
use crate::maintenance::{Collection, Options};
use crate::registry::Registry;
use crate::storage::faulty::{Fault, Faulty};
use crate::storage::{Key, Storage};
use crate::types::RunId;

/// What must be whole whatever happens.
const KEPT: [(&str, &str); 4] = [("a", "v2"), ("a", "v3"), ("a/b", "multi"), ("a/b", "v1")];

/// A registry with something of everything that a run deals with.
async fn prepared() -> House {
    let house = house();
    for tag in ["v1", "v2", "v3"] {
        house.image("a", Some(tag), tag, None).await;
        house.storage.age_all(HOUR);
    }
    let child = house.image("a/b", None, "child", None).await;
    house.index("a/b", "multi", &child).await;
    house.image("a/b", Some("v1"), "v1", None).await;
    house.image("a/b", None, "referrer", Some(&child)).await;
    let untagged = house.image("a/b", None, "untagged", None).await;
    house.image("a/b", None, "referrer of the untagged", Some(&untagged)).await;
    house.blob("a/b", "used by nothing", None).await;
    let dangling = house.blob("a/b", "lost", None).await;
    house.storage.remove(&Key::BlobData(&dangling).to_string());
    let healed = house.image("a/b", Some("v1"), "v1 anew", None).await;
    house.storage.remove(&Key::RevisionLink(&name("a/b"), &healed).to_string());
    house.storage.age_all(2 * HOUR);
    // A run that ended long ago has condemned what is in use and what is not, and so has one just now.
    let (old, young) = ("20200101T000000Z-000001".parse().unwrap(), RunId::now());
    condemn(&house, &old, &["v2", "gone"]).await;
    condemn(&house, &young, &["v3", "just gone"]).await;
    house
}

/// Condemns a layer of `a`, its link and its data.
async fn condemn(house: &House, run: &RunId, layers: &[&str]) {
    for layer in layers {
        let digest = house.blob("a", layer, None).await;
        house.registry.condemn(run, Key::LayerLink(&name("a"), &digest)).await.unwrap();
        house.registry.condemn(run, Key::BlobData(&digest)).await.unwrap();
        assert_eq!(digest, sha256(layer.as_bytes()));
    }
}

fn patient() -> Options {
    Options { grace_period: HOUR, ..options(keep_newest(2, &Protection::default())) }
}

/// What is stored, without the names of runs, which are other ones every time.
fn stored(house: &House) -> BTreeSet<String> {
    let is_run = |part: &&str| part.parse::<RunId>().is_err();
    house.paths().iter().map(|path| path.split('/').filter(is_run).collect::<Vec<_>>().join("/")).collect()
}

/// One run with a fault. Gives how many operations it took, and whether it told of no failure.
async fn run_with(house: &House, fault: Fault) -> (usize, bool) {
    let storage = Arc::new(Faulty::new(Arc::<crate::storage::Memory>::clone(&house.storage), fault));
    let registry = Registry::new(Arc::<Faulty>::clone(&storage) as Arc<dyn Storage>);
    let mut collection = Collection::new(&registry, patient());
    let succeeded = collection.run(&mut |_| {}).await.is_ok();
    (storage.operations(), succeeded && collection.summary().warnings == 0)
}

/// The next run does not wait until the lease of a dead one is over.
fn forget_lease(house: &House) {
    house.storage.remove(&Key::Lease.to_string());
}

#[tokio::test]
async fn wherever_a_run_fails_or_dies_nothing_is_lost_and_the_next_one_ends_it() {
    let undisturbed = prepared().await;
    let (operations, succeeded) = run_with(&undisturbed, Fault::None).await;
    assert!(succeeded && operations > 50, "{operations} operations");
    let after_one = stored(&undisturbed);
    undisturbed.run_out(&Options { grace_period: std::time::Duration::ZERO, ..patient() }).await;
    let in_the_end = undisturbed.paths();

    let mut told = 0;
    for number in 0..operations {
        for fault in [Fault::Failure(number), Fault::Death(number)] {
            let house = prepared().await;
            let (_, succeeded) = run_with(&house, fault).await;
            told += usize::from(!succeeded);
            forget_lease(&house);
            for (repository, tag) in KEPT {
                assert!(house.is_whole(repository, tag).await, "{repository}:{tag} after {fault:?}");
            }
            house.run(patient()).await;
            let difference: Vec<_> = stored(&house).symmetric_difference(&after_one).cloned().collect();
            assert_eq!(difference, Vec::<String>::new(), "after {fault:?} and another run");
            house.run_out(&Options { grace_period: std::time::Duration::ZERO, ..patient() }).await;
            assert_eq!(house.paths(), in_the_end, "after {fault:?} and all runs");
        }
    }
    assert!(told > operations, "a run tells when the storage fails: {told} of {}", 2 * operations);
}
