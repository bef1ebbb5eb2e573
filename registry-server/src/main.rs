//! The `registry-server` program.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use registry_server::app::App;
use registry_server::config::Config;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    let path = std::env::args().nth(2).map(PathBuf::from).context("usage: registry-server serve <file>")?;
    let config: Config = serde_yaml::from_str(&std::fs::read_to_string(path)?)?;
    let app = Arc::new(App::build(&config)?);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    registry_server::http::serve(app, &config, async move {
        terminate.recv().await;
    })
    .await?;
    Ok(())
}
