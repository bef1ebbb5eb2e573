//! Writes down what was pulled, now and then, so that a pull itself writes nothing.

use std::convert::Infallible;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;
use crate::registry::Error;

/// How long a pull may wait to be written down; a crash loses no more than that.
const INTERVAL: Duration = Duration::from_secs(30);

/// Writes down what was pulled, again and again.
pub(super) async fn run(app: &App) -> Infallible {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first comes at once.
    ticks.tick().await;
    let mut works = true;
    loop {
        ticks.tick().await;
        let written = write(app).await;
        // A volume that cannot be written to is told once, and again when it has been mended in between.
        if let (true, Err(error)) = (works, &written) {
            let error: &dyn std::error::Error = error;
            tracing::warn!(
                error,
                "when something was pulled cannot be written down, retention rules will not know"
            );
        }
        works = written.is_ok();
    }
}

/// Writes down what was pulled since the last time. What cannot be written is lost: the next pull is another chance.
///
/// # Errors
/// The first of those of the storage.
pub(super) async fn write(app: &App) -> Result<(), Error> {
    let mut result = Ok(());
    for (name, reference) in app.pulls.take() {
        if let Err(error) = app.registry.record_pull(&name, &reference).await {
            app.metrics.pulls_unrecorded(1);
            result = result.and(Err(error));
        }
        // Short writes do not wait, so without this many of them would hold up the requests of this thread.
        yield_now().await;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Driver, Filesystem};
    use crate::types::{Reference, RepositoryName};

    #[tokio::test]
    async fn what_was_pulled_is_written_and_what_cannot_be_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.storage.driver = Driver::Filesystem(Filesystem { rootdirectory: directory.path().to_owned() });
        let app = App::build(&config).unwrap();
        let name: RepositoryName = "a".parse().unwrap();
        let [first, second]: [Reference; 2] = ["v1", "v2"].map(|tag| tag.parse().unwrap());

        assert!(app.pulls.note(&name, &first));
        write(&app).await.unwrap();
        assert!(app.registry.pulled_at(&name, &first).await.unwrap().is_some());

        assert!(app.pulls.note(&name, &second));
        let side = std::fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
        std::fs::remove_dir_all(&side).unwrap();
        std::fs::write(&side, b"no directory").unwrap();
        write(&app).await.unwrap_err();
        assert!(app.metrics.render().unwrap().contains("registry_pulls_unrecorded_total 1"));
        write(&app).await.unwrap();
    }
}
