//! Waiting for a state, never for a time.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use anyhow::{anyhow, bail};
use futures::StreamExt;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

/// After this long a state is not expected any more. Generous: a slow machine is no failure.
pub const LIMIT: Duration = Duration::from_secs(240);

/// Time between two tries of what cannot be watched.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits until the object `name` is there and `holds`, and returns it. `what` says what is waited for.
///
/// # Errors
/// After [`LIMIT`], with the last state that was seen.
pub async fn until<K>(
    api: &Api<K>,
    name: &str,
    what: &str,
    mut holds: impl FnMut(&K) -> bool,
) -> anyhow::Result<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    let found = watch(api, name, what, |object| object.is_some_and(&mut holds)).await?;
    found.ok_or_else(|| anyhow!("{name} is gone"))
}

/// Waits until the object `name` is gone.
///
/// # Errors
/// As [`until`].
pub async fn gone<K>(api: &Api<K>, name: &str) -> anyhow::Result<()>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    watch(api, name, "it to be gone", |object| object.is_none()).await.map(|_| ())
}

async fn watch<K>(
    api: &Api<K>,
    name: &str,
    what: &str,
    mut holds: impl FnMut(Option<&K>) -> bool,
) -> anyhow::Result<Option<K>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    let mut last = None;
    let mut states = pin!(watch_object(api.clone(), name).default_backoff());
    let watch = async {
        while let Some(state) = states.next().await {
            // An interrupted watch is taken up again by the next poll.
            let Ok(object) = state else { continue };
            let reached = holds(object.as_ref());
            last = object;
            if reached {
                break;
            }
        }
    };
    if timeout(LIMIT, watch).await.is_ok() {
        return Ok(last);
    }
    if let Some(object) = &mut last {
        object.managed_fields_mut().clear();
    }
    let seen = last.as_ref().map(serde_yaml::to_string).transpose()?;
    bail!(
        "waited {LIMIT:?} in vain for {what}; {} {name} was last seen as:\n{}",
        api.resource_url(),
        seen.as_deref().unwrap_or("(it is not there)")
    )
}

/// Tries until `attempt` succeeds, and returns its result. For what cannot be watched, such as a server's answers.
///
/// # Errors
/// After [`LIMIT`], the last error of `attempt`.
pub async fn eventually<T>(what: &str, attempt: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if Instant::now() > deadline {
            return Err(error.context(format!("waited {LIMIT:?} in vain for {what}")));
        }
        sleep(PAUSE).await;
    }
}
