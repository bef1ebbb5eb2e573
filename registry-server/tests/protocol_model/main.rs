//! The protocol that lets garbage be collected beside pushes, proved by looking at everything that can happen.
//!
//! # Why nothing acknowledged is lost
//! Fix the moment at which a push sets its tag.
//!
//! - A run that begins to mark later sees the tag, so all that the image needs is reachable to it: it condemns
//!   none of it, and moves back what it finds of it in the quarantine.
//! - A run that began to mark earlier may hold the image for garbage for as long as it likes. It can do two things.
//!   It *condemns*: then there is an instance in the quarantine that came there after the tag. Nobody else's list
//!   that was made before a mark before the tag can hold that instance, because its path is its own; so only
//!   runs that see the tag can touch it, and reads revive it. It *deletes instances that it has listed*: those lay
//!   in the quarantine before the tag.
//! - So what lies at its place after the tag is safe, in one form or the other, and what lay in the quarantine at the
//!   time of the tag is not. That is what the second check of a push is for: it finds each object at its place,
//!   or moves it there out of the reach of old lists, or refuses. Only then is the push acknowledged.
//! - A deletion takes tags first, so a push that sets one of them afterwards can find no more missing than the revision
//!   link; its second check writes that, and when the deletion comes later still, whoever finds a tag without its
//!   revision writes it again: the tag says all that it holds.
//!
//! No step depends on time: the grace period spares pushers a refusal, and files the way to the quarantine.
//!
//! # What is searched
//! Pushers, a deleter, collectors and readers as programs whose steps interleave in every order ([`model`]). A
//! process may stop for ever after any step. Everything is old enough to be collected at any time, or still too young.
//! In every state that can be reached, all pushes that were acknowledged and not deleted since must
//! survive the death of everybody. For each rule of the protocol there is a test that the search finds
//! the loss without it; the story is printed with `--nocapture`.

#![expect(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "these are tests")]

mod model;
mod programs;
mod search;

use model::Model;
use programs::{Cast, Deleter, Rule, Shape};
use search::search;

/// One push of an image between two runs.
const SMALL: Cast = Cast {
    pushers: 1,
    shape: Shape::Image,
    own_images: false,
    deleter: Deleter::Nobody,
    collectors: 2,
    retention: false,
};

/// The same with fewer things to look at.
const SKETCH: Cast = Cast { shape: Shape::Sketch, ..SMALL };

/// Two pushes and a deletion between two runs.
const LARGE: Cast = Cast { pushers: 2, deleter: Deleter::OfTheImage, ..SKETCH };

fn holds(cast: Cast) {
    match search(&Model::new(cast, None)) {
        Ok(states) => println!("{states} states, nothing is lost: {cast:?}"),
        Err(story) => panic!("an acknowledged push is lost, {cast:?}\n{story}"),
    }
}

/// Fails unless the search finds what is lost without the rule, and nothing with it.
fn is_needed(rule: Rule, cast: Cast) {
    holds(cast);
    match search(&Model::new(cast, Some(rule))) {
        Ok(states) => panic!("without {rule:?} nothing is lost in {states} states"),
        Err(story) => println!("without {rule:?}\n{story}"),
    }
}

#[test]
fn no_acknowledged_push_is_lost_between_two_pushers_a_deleter_and_two_collectors() {
    holds(LARGE);
}

#[test]
fn pushes_of_other_images_over_one_layer_lose_nothing() {
    holds(Cast { own_images: true, deleter: Deleter::Nobody, ..LARGE });
}

#[test]
fn pushes_beside_retention_lose_nothing() {
    holds(Cast { retention: true, deleter: Deleter::Nobody, ..LARGE });
}

#[test]
fn a_push_whose_image_is_deleted_meanwhile_loses_nothing() {
    holds(Cast { collectors: 1, deleter: Deleter::OfTheImage, ..SMALL });
}

#[test]
#[ignore = "ten million states: make soak"]
fn the_largest_casts_lose_nothing() {
    holds(Cast { pushers: 2, ..SMALL });
    holds(Cast { deleter: Deleter::OfTheImage, ..SMALL });
    holds(Cast { own_images: true, ..LARGE });
}

#[test]
fn without_the_second_check_a_push_is_lost() {
    is_needed(Rule::SecondCheck, SMALL);
}

#[test]
fn a_second_check_of_the_links_alone_is_not_enough() {
    is_needed(Rule::SecondCheckOfData, SMALL);
}

#[test]
fn a_second_check_of_an_indexs_children_without_their_layers_is_not_enough() {
    is_needed(Rule::SecondCheckBelowChildren, Cast { shape: Shape::Index, ..SMALL });
}

#[test]
fn a_quarantine_listed_after_the_mark_loses_a_push() {
    is_needed(Rule::ListBeforeMark, SKETCH);
}

#[test]
fn a_quarantine_that_all_runs_share_loses_a_push() {
    is_needed(Rule::QuarantinePerRun, SKETCH);
}

#[test]
fn a_run_that_condemns_the_same_path_twice_loses_a_push() {
    is_needed(Rule::CondemnOnce, SKETCH);
}

#[test]
fn deletion_without_a_quarantine_loses_a_push() {
    is_needed(Rule::Quarantine, SKETCH);
}

#[test]
fn a_tag_without_its_revision_that_nobody_heals_is_lost() {
    is_needed(Rule::Healing, Cast { deleter: Deleter::OfTheImage, ..SKETCH });
}

#[test]
fn a_tag_that_is_taken_away_to_look_at_it_is_lost() {
    is_needed(Rule::RemoveTagInOneStep, Cast { deleter: Deleter::OfThePrevious, ..SKETCH });
}
