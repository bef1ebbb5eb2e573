//! The commands around garbage collection: what they take, what they print, how they end.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{ArgAction, Args, Subcommand, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Failure, Signals, environment, print, runtime};
use crate::app::App;
use crate::config::{self, Config, Loaded, Protection, Retention};
use crate::maintenance::retention::Rules;
use crate::maintenance::{
    Collection, Event, Item, Options, Subject, Summary, explain, purge, quarantined, restore,
};
use crate::registry::Registry;
use crate::telemetry;

/// How often progress is told where there is no terminal.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Arguments of `garbage-collect`. The short ones are those of CNCF distribution's command.
#[derive(Debug, Args)]
pub(super) struct GarbageCollect {
    #[command(flatten)]
    rules: RuleArguments,
    /// Only say what would be done.
    #[arg(short, long)]
    dry_run: bool,
    /// Print nothing but warnings and errors.
    #[arg(short, long)]
    quiet: bool,
    /// Give up upload sessions that have received nothing for so long; 0 for never
    /// [default: storage.maintenance.uploadpurging.age, unless that is not enabled].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    uploads_older_than: Option<Duration>,
    /// Stop after so long; the next run goes on.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    time_budget: Option<Duration>,
    /// Ask no more operations of the storage than so many a second.
    #[arg(long, value_name = "OPERATIONS")]
    io_limit: Option<NonZeroU32>,
    /// Form of what is printed: lines to read, or a JSON object for each thing and one for the whole.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    report: Form,
    /// Write the run's figures to a file too, as one JSON object of at most 4096 bytes.
    #[arg(long, value_name = "FILE")]
    report_file: Option<PathBuf>,
    /// File with the settings, in the format of CNCF distribution's config.yml.
    #[arg(env = "REGISTRY_CONFIGURATION_PATH")]
    file: PathBuf,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    rules: RuleArguments,
    #[command(flatten)]
    settings: Settings,
    /// A tag, manifest or blob: repository:tag, repository@digest or a digest.
    #[arg(value_name = "REFERENCE", value_parser = |text: &str| text.parse::<Subject>())]
    subject: Subject,
}

/// Commands around what has been condemned.
#[derive(Debug, Subcommand)]
pub(super) enum Quarantine {
    /// Print what is in the quarantine, by run.
    List {
        #[command(flatten)]
        settings: Settings,
        /// Form of what is printed.
        #[arg(long, value_enum, default_value_t = Form::Text)]
        report: Form,
    },
    /// Bring back what is named, or everything.
    ///
    /// It is then as young as if it had been pushed just now. Rules that have let a tag go will do so again: change
    /// them first.
    Restore {
        #[command(flatten)]
        settings: Settings,
        /// Runs, digests, repositories, or tags as repository:tag.
        what: Vec<String>,
    },
    /// Delete everything that nothing leads to, without waiting for the end of the grace period.
    Purge {
        #[command(flatten)]
        settings: Settings,
    },
}

/// Where the settings are.
#[derive(Debug, Args)]
pub(super) struct Settings {
    /// File with the settings, in the format of CNCF distribution's config.yml.
    #[arg(long, value_name = "FILE", env = "REGISTRY_CONFIGURATION_PATH")]
    config: PathBuf,
}

/// What must be kept and what may go.
#[derive(Debug, Args)]
struct RuleArguments {
    /// Let manifests go that neither a tag nor a kept manifest leads to.
    #[arg(short = 'm', long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    delete_untagged: bool,
    /// Leave garbage alone for so long before it is moved to the quarantine, and again before it is deleted.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    grace_period: Duration,
    /// YAML file with images and tags that are kept whatever the rules say.
    #[arg(long, value_name = "FILE")]
    protect_file: Option<PathBuf>,
    /// YAML file with the rules by which tags go. Without it, none goes.
    #[arg(long, value_name = "FILE")]
    retention_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    Text,
    Json,
}

impl GarbageCollect {
    /// Exits as CNCF distribution's command does: 1 after any failure, be it of settings or at work.
    pub(super) fn run(self) -> Result<(), Failure> {
        self.collect().map_err(|failure| match failure {
            Failure::Usage(error) | Failure::Work(error) => Failure::Work(error),
        })
    }

    fn collect(&self) -> Result<(), Failure> {
        let config = settings(&self.file)?;
        let registry = open_storage(&config)?;
        let purging = &config.storage.maintenance.uploadpurging;
        let uploads_older_than = self.uploads_older_than.or_else(|| purging.enabled.then_some(purging.age));
        let options = Options {
            dry_run: self.dry_run,
            uploads_older_than: uploads_older_than.filter(|age| !age.is_zero()),
            time_budget: self.time_budget,
            io_limit: self.io_limit,
            ..self.rules.options()?
        };
        let mut collection = Collection::new(&registry, options);
        let mut teller = Teller::new(self.quiet, self.report);
        let collected = runtime()?.block_on(async {
            tokio::spawn(stop_on_signal(collection.stop()));
            collection.run(&mut |event| teller.tell(&event)).await
        });
        teller.end();
        let mut summary = collection.summary();
        let collected = collected.context("the garbage collection ended early");
        if let Err(error) = &collected {
            summary.fail(&format_args!("{error:#}"));
        }
        self.report(&summary)?;
        Ok(collected?)
    }

    fn report(&self, summary: &Summary) -> Result<(), Failure> {
        if let Some(path) = &self.report_file {
            let text = serde_json::to_string(summary).context("write the report")?;
            fs::write(path, text).with_context(|| format!("write the report to {}", path.display()))?;
        }
        match self.report {
            Form::Json => print(&format!("{}\n", json!({"summary": summary}))),
            Form::Text if self.quiet => Ok(()),
            Form::Text => print(&told(summary)),
        }
    }
}

impl Explain {
    pub(super) fn run(self) -> Result<(), Failure> {
        let registry = open(&self.settings.config)?;
        let options = self.rules.options()?;
        let lines = runtime()?.block_on(explain(&registry, &options, &self.subject)).context("explain")?;
        print(&lines.into_iter().map(|line| line + "\n").collect::<String>())
    }
}

impl Quarantine {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::List { settings, report } => list(&open(&settings.config)?, report),
            Self::Restore { settings, what } => {
                let registry = open(&settings.config)?;
                let count = runtime()?.block_on(restore(&registry, &what)).context("restore")?;
                print(&format!("{count} things are back\n"))
            }
            Self::Purge { settings } => {
                let registry = open(&settings.config)?;
                let mut teller = Teller::new(false, Form::Text);
                let (summary, purged) =
                    runtime()?.block_on(purge(&registry, &mut |event| teller.tell(&event)));
                teller.end();
                purged.context("purge")?;
                print(&told(&summary))
            }
        }
    }
}

impl RuleArguments {
    fn options(&self) -> Result<Options, Failure> {
        let retention: Retention = read_rules(self.retention_file.as_deref())?;
        let protection: Protection = read_rules(self.protect_file.as_deref())?;
        let rules = Rules::compile(&retention, &protection).map_err(|error| Failure::Usage(error.into()))?;
        Ok(Options {
            dry_run: true,
            delete_untagged: self.delete_untagged,
            grace_period: self.grace_period,
            rules,
            uploads_older_than: None,
            time_budget: None,
            io_limit: None,
        })
    }
}

/// A run that is asked to end gives its lease back; in a container nothing else would end it before its time.
async fn stop_on_signal(stop: CancellationToken) {
    let Ok(mut signals) = Signals::new() else { return };
    let name = signals.next().await;
    tracing::info!(signal = name, "the run ends early");
    stop.cancel();
}

/// The registry that settings describe, with logs as they say.
fn open(file: &Path) -> Result<Registry, Failure> {
    open_storage(&settings(file)?)
}

/// Reads settings and begins to log as they say.
pub(super) fn settings(file: &Path) -> Result<Config, Failure> {
    let Loaded { config, .. } = config::load(file, environment())?;
    telemetry::start(&config.log);
    Ok(config)
}

pub(super) fn open_storage(config: &Config) -> Result<Registry, Failure> {
    Ok(App::registry_for_job(config).context("open the registry")?)
}

fn read_rules<T: DeserializeOwned + Default>(file: Option<&Path>) -> Result<T, Failure> {
    let Some(path) = file else { return Ok(T::default()) };
    let read = || -> anyhow::Result<T> { Ok(serde_yaml::from_str(&fs::read_to_string(path)?)?) };
    read().with_context(|| format!("read {}", path.display())).map_err(Failure::Usage)
}

fn list(registry: &Registry, form: Form) -> Result<(), Failure> {
    let all = runtime()?.block_on(quarantined(registry)).context("list the quarantine")?;
    if form == Form::Json {
        return print(&format!("{}\n", json!(all)));
    }
    for one in all {
        let (layers, blobs, size) = (one.layers, one.blobs, Size(one.bytes));
        print(&format!("{}: {blobs} blobs ({size}), {layers} links to blobs\n", one.run))?;
        for name in one.tags.iter().chain(&one.manifests) {
            print(&format!("  {name}\n"))?;
        }
    }
    Ok(())
}

/// Prints what happens: items on standard output, warnings and progress on standard error.
struct Teller {
    quiet: bool,
    form: Form,
    terminal: bool,
    told: Instant,
}

impl Teller {
    fn new(quiet: bool, form: Form) -> Self {
        Self { quiet, form, terminal: io::stderr().is_terminal(), told: Instant::now() }
    }

    fn tell(&mut self, event: &Event<'_>) {
        match event {
            Event::Did(item) => self.item(item),
            Event::Warning(text) => {
                self.end();
                let _ = writeln!(io::stderr(), "warning: {text}");
            }
            Event::Marked(done, all) => self.progress("repositories marked", *done, *all),
            Event::Swept(done, all) => self.progress("parts of the blobs swept", *done, *all),
        }
    }

    fn item(&mut self, item: &Item) {
        if self.quiet {
            return;
        }
        let line = match self.form {
            Form::Text => item.to_string(),
            Form::Json => json!(item).to_string(),
        };
        // Whoever reads it may have seen enough; the run goes on.
        let _ = writeln!(io::stdout(), "{line}");
    }

    fn progress(&mut self, what: &str, done: usize, all: usize) {
        let due = if self.terminal { Duration::from_millis(100) } else { PROGRESS_INTERVAL };
        if self.quiet || self.told.elapsed() < due {
            return;
        }
        self.told = Instant::now();
        let (begin, end) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        let bar = "#".repeat(done * 30 / all.max(1));
        let _ = write!(io::stderr(), "{begin}[{bar:30}] {done} of {all} {what}{end}");
    }

    /// Ends the line in which progress is shown.
    fn end(&self) {
        if self.terminal && !self.quiet {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// A run's figures in lines to read.
fn told(summary: &Summary) -> String {
    let s = summary;
    let (would, end) = if s.dry_run { ("would be ", "") } else { ("", "") };
    let unfinished = if s.complete { "" } else { "not all was looked at: the next run goes on\n" };
    format!(
        "{} repositories with {} tags and {} manifests; {} blobs of {} are kept\n\
         {} tags and {} manifests {would}let go, {} kept only because workloads use them\n\
         {} blobs of {} {would}condemned, {} revived, {} of {} {would}deleted; {} of {} in quarantine\n\
         {} uploads and {} leftovers {would}removed; {} warnings{end}\n{unfinished}",
        s.repositories,
        s.tags,
        s.manifests,
        s.blobs,
        Size(s.bytes),
        s.tags_deleted,
        s.manifests_deleted,
        s.protected_by_workloads,
        s.blobs_condemned,
        Size(s.bytes_condemned),
        s.blobs_revived,
        s.blobs_deleted,
        Size(s.bytes_reclaimed),
        s.blobs_quarantined,
        Size(s.bytes_quarantined),
        s.uploads_deleted,
        s.leftovers_deleted,
        s.warnings,
    )
}

/// A number of bytes, to read.
pub(super) struct Size(pub(super) u64);

impl std::fmt::Display for Size {
    #[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.into_iter().find(|(power, _)| self.0 >> power > 0) {
            Some((power, unit)) => {
                write!(formatter, "{:.1} {unit}", self.0 as f64 / (1_u64 << power) as f64)
            }
            None => write!(formatter, "{} bytes", self.0),
        }
    }
}

/// A duration in Go's notation, as in the settings.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).ok_or_else(|| "expected a duration such as 10s, 5m or 168h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_a_unit_that_fits() {
        let rows = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (3 << 29, "1.5 GiB"),
            (5 << 40, "5.0 TiB"),
        ];
        for (bytes, text) in rows {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn the_figures_of_a_dry_run_say_that_nothing_was_done() {
        let real = told(&Summary { complete: true, ..Summary::default() });
        let dry = told(&Summary { dry_run: true, ..Summary::default() });
        assert!(!real.contains("would") && dry.contains("would be condemned"), "{dry}");
        assert!(dry.contains("not all was looked at") && !real.contains("not all"));
    }
}
