//! What the server does beside answering requests.

mod pulls;

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use crate::app::App;

/// Does it until it is dropped.
pub async fn run(app: Arc<App>) -> Infallible {
    pulls::run(&app).await
}

/// Does what must not be left undone when the server stops.
pub async fn finish(app: &App) {
    if let Err(error) = pulls::write(app).await {
        tracing::warn!(error = &error as &dyn Error, "the last pulls could not be written down");
    }
}
