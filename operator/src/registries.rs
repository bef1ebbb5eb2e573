//! All Registries at once: what the watches know of them, and the parts of their status that are not written by their own
//! reconcile but by a round over all of them.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::api::pull_access::PULL_ACCESS_READY;
use crate::api::registry::Registry;
use crate::api::status::{ADVERTISED, NODE_ACCESS_READY, Reason, RegistryStatus};
use crate::conditions::Verdict;
use crate::context::Context;
use crate::registry::{self, Error};
use crate::{apply, names};

/// Requests about single Registries that are under way at the same time.
pub const CONCURRENCY: usize = 16;

/// Reasons that pass by themselves, and are not worth an Event.
const PASSING: [Reason; 2] = [Reason::NodesPending, Reason::AddressPending];

/// The Registries of all watched namespaces.
#[derive(Clone, Debug, Default)]
pub struct Registries<'a> {
    /// Those that can be read.
    pub readable: Vec<&'a Registry>,
    /// Namespace and name of those that cannot: nothing is known of what they ask for, so what they have stays.
    pub unreadable: BTreeSet<String>,
}

impl<'a> Registries<'a> {
    /// Sorts what the watches know. One that is about to go is gone.
    pub fn of(known: impl IntoIterator<Item = &'a DeserializeGuard<Registry>>) -> Self {
        let mut registries = Self::default();
        for guarded in known.into_iter().filter(|guarded| guarded.meta().deletion_timestamp.is_none()) {
            match &guarded.0 {
                Ok(registry) => registries.readable.push(registry),
                Err(_) => drop(registries.unreadable.insert(full_name(guarded.meta()))),
            }
        }
        registries
    }
}

/// Namespace and name of `registry`, as `namespace/name`.
#[must_use]
pub fn name_of(registry: &Registry) -> String {
    full_name(&registry.metadata)
}

fn full_name(metadata: &ObjectMeta) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    format!("{}/{}", text(&metadata.namespace), text(&metadata.name))
}

/// By what Registries are sorted so that the oldest comes first, the same at all times.
#[must_use]
pub fn age(registry: &Registry) -> (Option<Timestamp>, String) {
    (registry.creation_timestamp().map(|time| time.0), name_of(registry))
}

/// A part of the status that one kind of round writes: a condition, and a field if there is more to tell. It has a field
/// manager of its own, so that all who write to a Registry need not know of each other.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    manager: &'static str,
    condition: &'static str,
    field: Option<&'static str>,
}

/// What is told of the nodes.
pub const OF_NODES: Part = Part {
    manager: names::NODE_ACCESS_FIELD_MANAGER,
    condition: NODE_ACCESS_READY,
    field: Some("nodeAccess"),
};

/// What is told of pull secrets.
pub const OF_PULL_SECRETS: Part = Part {
    manager: names::PULL_ACCESS_FIELD_MANAGER,
    condition: PULL_ACCESS_READY,
    field: Some("pullAccess"),
};

/// What is told of advertising.
pub const OF_ADVERTISING: Part =
    Part { manager: names::ADVERTISING_FIELD_MANAGER, condition: ADVERTISED, field: None };

/// What there is to tell in one [`Part`].
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// The condition.
    pub verdict: Verdict<Reason>,
    /// The field, `null` if the part has none.
    pub field: Value,
}

impl Part {
    /// Brings this part of each of the `registries` in line with its news; with none, nothing of it is left there.
    ///
    /// # Errors
    /// The first [`Error`], after all others have been told.
    pub async fn publish(
        &self,
        registries: impl IntoIterator<Item = (&Registry, Option<News>)>,
        context: &Context,
        now: Timestamp,
    ) -> Result<(), Error> {
        let untold = registries.into_iter().filter_map(|(registry, news)| {
            self.untold(registry.status.as_ref(), news.as_ref(), now).map(|_| (registry, news))
        });
        let told: Vec<Result<(), Error>> = stream::iter(untold)
            .map(|(registry, news)| self.tell(registry, news, context, now))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        told.into_iter().collect()
    }

    /// Writes to one `registry`, and an Event if the condition has turned. The watch may lag behind what was written last:
    /// from an old status, old news would be told anew.
    async fn tell(
        &self,
        registry: &Registry,
        news: Option<News>,
        context: &Context,
        now: Timestamp,
    ) -> Result<(), Error> {
        let Some(fresh) = registry::read(&registry.metadata, context).await? else { return Ok(()) };
        let Ok(fresh) = fresh.0 else { return Ok(()) };
        // The news are of another spec, and the next round is about to begin.
        if fresh.uid() != registry.uid() || fresh.metadata.generation != registry.metadata.generation {
            return Ok(());
        }
        let before = fresh.status.as_ref();
        let Some(status) = self.untold(before, news.as_ref(), now) else { return Ok(()) };
        let written =
            apply::status::<Registry>(&context.client, &fresh.metadata, &status, self.manager).await;
        written.map_err(Error::Status)?;
        let known = before.and_then(|status| status.condition(self.condition));
        let has_turned = |verdict: &Verdict<Reason>| {
            known.is_none_or(|known| {
                known.status != verdict.status || known.reason != verdict.reason.to_string()
            })
        };
        let Some(verdict) = news.map(|news| news.verdict).filter(has_turned) else { return Ok(()) };
        if !PASSING.contains(&verdict.reason) {
            let object = fresh.object_ref(&());
            let is_bad = verdict.status != "True";
            context.publish(&object, is_bad, &self.event(verdict.reason), &verdict.message).await;
        }
        Ok(())
    }

    /// `Available` alone would be taken for the registry's.
    fn event(&self, reason: Reason) -> String {
        if reason == Reason::Available { self.condition.to_owned() } else { reason.to_string() }
    }

    /// What has to be applied so that a Registry with the status `before` tells the `news`; `None` if it does.
    fn untold(&self, before: Option<&RegistryStatus>, news: Option<&News>, now: Timestamp) -> Option<Value> {
        let conditions = before.map(|status| status.conditions.as_slice()).unwrap_or_default();
        // It is about more than the Registry, whatever generation the rest of the status is about.
        let wanted = news.map(|news| news.verdict.condition(self.condition, conditions, None, now));
        let known = before.and_then(|status| status.condition(self.condition));
        let field = |field: &str| json!(before)[field] == news.map_or(Value::Null, |news| news.field.clone());
        if known == wanted.as_ref() && self.field.is_none_or(field) {
            return None;
        }
        // What is no longer applied goes.
        let (Some(condition), Some(news)) = (wanted, news) else { return Some(json!({})) };
        let mut status = json!({ "conditions": [condition] });
        if let Some(field) = self.field {
            status[field] = news.field.clone();
        }
        Some(status)
    }
}

#[cfg(test)]
mod tests {
    use super::{News, OF_ADVERTISING, OF_NODES, Registries, age};
    use crate::api::registry::Registry;
    use crate::api::status::{Reason, RegistryStatus};
    use crate::conditions::Verdict;
    use kube::core::DeserializeGuard;
    use serde_json::{Value, json};

    fn registry(metadata: &Value, spec: &Value) -> Value {
        json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry", "metadata": metadata, "spec": spec})
    }

    #[test]
    fn what_cannot_be_read_is_known_by_its_name() {
        let good = json!({"storage": {"filesystem": {"size": "1Gi"}}});
        let known: Vec<DeserializeGuard<Registry>> = [("good", good), ("bad", json!({"storage": 1}))]
            .map(|(name, spec)| registry(&json!({"name": name, "namespace": "n"}), &spec))
            .map(|object| serde_json::from_value(object).unwrap())
            .into();
        let registries = Registries::of(&known);
        assert_eq!(registries.readable.len(), 1);
        assert_eq!(registries.unreadable.into_iter().collect::<Vec<_>>(), ["n/bad"]);
    }

    #[test]
    fn the_oldest_comes_first_and_of_the_same_age_the_first_by_name() {
        let mut sorted: Vec<Registry> = [("b", "n", 1), ("c", "m", 0), ("a", "n", 1), ("z", "a", 1)]
            .map(|(name, namespace, second)| {
                let created = format!("2026-01-01T00:00:0{second}Z");
                let metadata = json!({"name": name, "namespace": namespace, "creationTimestamp": created});
                registry(&metadata, &json!({"storage": {"filesystem": {"size": "1Gi"}}}))
            })
            .map(|object| serde_json::from_value(object).unwrap())
            .into();
        sorted.sort_by_key(age);
        let names: Vec<&str> =
            sorted.iter().filter_map(|registry| registry.metadata.name.as_deref()).collect();
        assert_eq!(names, ["c", "z", "a", "b"]);
    }

    #[test]
    fn only_what_is_new_is_told_and_what_is_over_is_taken_back() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let news = |ready: i32| News {
            verdict: Verdict::new(true, Reason::NodesReady, "all"),
            field: json!({"ready": ready, "desired": 2}),
        };
        let told = OF_NODES.untold(None, Some(&news(1)), now).unwrap();
        assert_eq!(told["conditions"][0]["type"], "NodeAccessReady");
        assert_eq!(told["conditions"][0].get("observedGeneration"), None);
        assert_eq!(told["nodeAccess"]["ready"], 1);
        let status: RegistryStatus = serde_json::from_value(told).unwrap();
        assert_eq!(OF_NODES.untold(Some(&status), Some(&news(1)), now), None);
        assert_eq!(OF_NODES.untold(Some(&status), Some(&news(2)), now).unwrap()["nodeAccess"]["ready"], 2);
        assert_eq!(OF_NODES.untold(Some(&status), None, now), Some(json!({})));
        assert_eq!(OF_NODES.untold(None, None, now), None);

        let advertised = News { verdict: Verdict::new(true, Reason::Available, "here"), field: Value::Null };
        let told = OF_ADVERTISING.untold(Some(&status), Some(&advertised), now).unwrap();
        assert_eq!(told.as_object().unwrap().len(), 1);
        let status: RegistryStatus = serde_json::from_value(told).unwrap();
        assert_eq!(OF_ADVERTISING.untold(Some(&status), Some(&advertised), now), None);
    }
}
