//! Wiring of what is advertised: any change of a Registry, or of the one `ConfigMap` that tells of one.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher;

use super::metadata;
use super::rounds::{Rounds, events};
use crate::registries::Registries;
use crate::{advertise, names};

/// Works for the Registries of the namespaces of `watched`, or of all if there are none.
pub(super) async fn control(rounds: &Rounds, watched: &[String]) {
    let context = &rounds.context;
    let mut news = Vec::new();
    // Without, the operator has no right to look.
    if context.advertises {
        let config_maps = metadata::<ConfigMap>(&context.client, Some(names::ADVERTISING_NAMESPACE));
        let one = format!("metadata.name={}", names::ADVERTISING_CONFIG_MAP);
        news.push(events(config_maps, watcher::Config::default().fields(&one)));
    }
    let round = async |registries: Registries<'_>| {
        advertise::reconcile(&registries, context, watched, Timestamp::now()).await
    };
    rounds.run("advertise", news, round).await;
}
