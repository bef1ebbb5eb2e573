//! The command line: from arguments to one call each, from errors to one message and an exit code.

mod collect;
mod htpasswd;
mod uploads;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::available_parallelism;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::app::App;
use crate::auth;
use crate::background;
use crate::config::{self, Config, Loaded};
use crate::http;
use crate::telemetry;

/// Threads for requests, at least: with two, one that waits for a disk shows in every other request.
const LEAST_WORKERS: usize = 4;

/// The arguments of `registry-server`.
#[derive(Debug, Parser)]
#[command(name = "registry-server", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the registry until SIGTERM or SIGINT.
    ///
    /// Running requests then get http.draintimeout to end; a second signal ends them at once.
    Serve {
        /// File with the settings, in the format of CNCF distribution's config.yml.
        #[arg(env = "REGISTRY_CONFIGURATION_PATH")]
        file: PathBuf,
    },
    /// Take what nothing leads to out of the storage, beside any number of servers.
    ///
    /// What is garbage for longer than the grace period is moved to the quarantine, from which any use brings it back;
    /// a later run deletes it when another grace period has gone by. Tags go only by the rules of --retention-file.
    GarbageCollect(collect::GarbageCollect),
    /// Say why something is kept or will go, without doing anything.
    Explain(collect::Explain),
    /// Look at, bring back or delete what garbage collections have condemned.
    #[command(subcommand)]
    Quarantine(collect::Quarantine),
    /// Remove uploads that nobody goes on with, as a server does now and then.
    PurgeUploads(uploads::PurgeUploads),
    /// Look at settings without serving.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a line for a password file, with a bcrypt hash.
    ///
    /// The password is asked for, or read from standard input if that is no terminal.
    Htpasswd {
        /// Name of the user.
        user: String,
        /// Work for each check of the password: one more doubles it.
        #[arg(short = 'C', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(4..=17))]
        cost: u32,
        /// Print the line, which is what happens in any case; here for the habits of Apache's htpasswd.
        #[arg(short = 'n', hide = true)]
        print: bool,
        /// Use bcrypt, as in any case.
        #[arg(short = 'B', hide = true)]
        bcrypt: bool,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say what is wrong with a file of settings and the REGISTRY_* variables.
    Check {
        /// File with the settings.
        #[arg(env = "REGISTRY_CONFIGURATION_PATH")]
        file: PathBuf,
    },
    /// Print the JSON schema of the settings.
    Schema,
}

/// Why a command ended, by who can help.
enum Failure {
    /// The settings or arguments must be changed.
    Usage(anyhow::Error),
    /// Something failed at work.
    Work(anyhow::Error),
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::Usage(error.into())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Work(error)
    }
}

/// Does what the process's arguments say: exit code 0 after success, 1 after a failure at work, 2 when arguments or
/// settings are wrong.
#[must_use]
pub fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve { file } => serve(&file),
        Command::GarbageCollect(arguments) => arguments.run(),
        Command::Explain(arguments) => arguments.run(),
        Command::Quarantine(command) => command.run(),
        Command::PurgeUploads(arguments) => arguments.run(),
        Command::Config(ConfigCommand::Check { file }) => check(&file),
        Command::Config(ConfigCommand::Schema) => print(&format!("{:#}\n", config::schema().to_value())),
        Command::Htpasswd { user, cost, .. } => htpasswd::htpasswd(&user, cost),
    };
    let (error, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Work(error)) => (error, 1),
        Err(Failure::Usage(error)) => (error, 2),
    };
    // With standard error gone, nobody is left to tell.
    let _ = writeln!(io::stderr(), "registry-server: {error:#}");
    ExitCode::from(code)
}

fn serve(file: &Path) -> Result<(), Failure> {
    let Loaded { config, warnings } = config::load(file, environment())?;
    telemetry::start(&config.log);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    raise_file_limit();
    runtime()?.block_on(serve_until_signal(&config))?;
    Ok(())
}

/// Takes all file descriptors that the system allows, one for each connection and each blob on its way. The lower limit
/// that is on by default is there for programs that use select(2).
fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

async fn serve_until_signal(config: &Config) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let (stop, stopped) = oneshot::channel();
    let app = Arc::new(App::build(config)?);
    // It ends with the runtime.
    tokio::spawn(background::run(Arc::clone(&app), config.storage.maintenance.clone()));
    let serving = http::serve(Arc::clone(&app), config, async {
        // Its other half lives as long as this function.
        let _ = stopped.await;
    });
    let interrupted = async {
        let name = signals.next().await;
        tracing::info!(signal = name, "stopping");
        let _ = stop.send(());
        signals.next().await
    };
    tokio::select! {
        served = serving => served?,
        name = interrupted => bail!("a second signal, {name}, cut off running requests"),
    }
    background::finish(&app).await;
    Ok(())
}

/// The signals that ask to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    let cores = available_parallelism().map_or(1, usize::from);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(cores.max(LEAST_WORKERS)).enable_all().build().context("start threads")
}

fn check(file: &Path) -> Result<(), Failure> {
    let Loaded { config, warnings } = config::load(file, environment())?;
    auth::check(&config).map_err(auth::Error::Rules).context("the settings cannot be used")?;
    for warning in warnings {
        print(&format!("{warning}\n"))?;
    }
    print(&format!("{}: the settings can be used\n", file.display()))
}

/// The environment, but for variables that are not text and so cannot be ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn print(text: &str) -> Result<(), Failure> {
    Ok(io::stdout().write_all(text.as_bytes()).context("write to standard output")?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_are_understood_or_refused() {
        let rows = [
            ("serve /etc/config.yml", true),
            ("garbage-collect /etc/config.yml", true),
            ("garbage-collect -d -m -q /etc/config.yml", true),
            ("garbage-collect --dry-run --delete-untagged --quiet /etc/config.yml", true),
            ("garbage-collect --delete-untagged=false --grace-period 24h /etc/config.yml", true),
            ("garbage-collect --time-budget 30m --io-limit 500 --report json /etc/config.yml", true),
            ("garbage-collect --protect-file p --retention-file r --report-file s /etc/config.yml", true),
            ("garbage-collect --grace-period soon /etc/config.yml", false),
            ("garbage-collect --io-limit 0 /etc/config.yml", false),
            ("explain --config /etc/config.yml team/app:v1", true),
            ("explain --config /etc/config.yml -m --grace-period 1h team/app", true),
            ("explain --config /etc/config.yml Team:v1", false),
            ("quarantine list --config /etc/config.yml", true),
            ("quarantine restore --config /etc/config.yml team/app:v1 team/app:v2", true),
            ("quarantine purge --config /etc/config.yml", true),
            ("config check /etc/config.yml", true),
            ("config schema", true),
            ("purge-uploads /etc/config.yml", true),
            ("purge-uploads -d --older-than 1h30m /etc/config.yml", true),
            ("purge-uploads --older-than 7d /etc/config.yml", false),
            ("htpasswd ann", true),
            ("htpasswd -nB -C 12 ann", true),
            ("htpasswd --cost 3 ann", false),
            ("htpasswd", false),
            ("config", false),
            ("", false),
        ];
        for (arguments, understood) in rows {
            let parsed = Cli::try_parse_from(format!("registry-server {arguments}").split_whitespace());
            assert_eq!(parsed.is_ok(), understood, "{arguments}");
        }
    }
}
