//! Wiring of pull access: any change of a Registry, a namespace, a `ServiceAccount` or a Secret of ours leads to a round over
//! all of them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;

use super::metadata;
use super::rounds::{Rounds, events};
use crate::registries::Registries;
use crate::{names, pull_access};

/// Works in the namespaces of `watched`, or in all if there are none; `scopes` are the same for watches.
pub(super) async fn control(rounds: &Rounds, watched: &[String], scopes: &[Option<&str>]) {
    let (context, client) = (&rounds.context, &rounds.context.client);
    let ours = watcher::Config::default().labels(names::PULL_REGISTRY_LABEL);
    let every = watcher::Config::default;
    let mut news = vec![events(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), every())];
    for scope in scopes {
        news.push(events(metadata::<ServiceAccount>(client, *scope), every()));
        news.push(events(metadata::<Secret>(client, *scope), ours.clone()));
    }
    let round = async |registries: Registries<'_>| {
        pull_access::reconcile(&registries, context, watched, Timestamp::now()).await
    };
    rounds.run("pull-access", news, round).await;
}
