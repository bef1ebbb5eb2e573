//! What the server does beside answering requests.

mod pulls;
mod uploads;

use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::sync::Arc;

use crate::app::App;
use crate::config::Maintenance;

/// Does it until it is dropped.
pub async fn run(app: Arc<App>, settings: Maintenance) -> Infallible {
    let purging = settings.uploadpurging;
    let is_purged = purging.enabled && !settings.readonly.enabled;
    let purge =
        async { if is_purged { uploads::run(&app.registry, &purging).await } else { pending().await } };
    tokio::select! {
        never = pulls::run(&app) => never,
        never = purge => never,
    }
}

/// Does what must not be left undone when the server stops.
pub async fn finish(app: &App) {
    if let Err(error) = pulls::write(app).await {
        tracing::warn!(error = &error as &dyn Error, "the last pulls could not be written down");
    }
}
