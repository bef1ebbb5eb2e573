//! Setting up the log, which goes to standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// The runtime's spans repeat at length what each line says already. A directive of the user's comes later and wins.
const QUIET: &str = "kube_runtime=warn";

/// Form of a log line.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging; `filter` is a level such as `info`, or directives such as `info,kube=debug`.
///
/// # Errors
/// When `filter` cannot be read, or logging has been started before.
pub fn start(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(format!("{QUIET},{filter}"))?)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!(error))
}
