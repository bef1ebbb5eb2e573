//! The command that removes uploads that nobody goes on with.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::collect::{Size, duration, open_storage, settings};
use super::{Failure, print, runtime};
use crate::maintenance::{PurgedUploads, purge_uploads};

/// Arguments of `purge-uploads`.
#[derive(Debug, Args)]
pub(super) struct PurgeUploads {
    /// Only say what would be removed.
    #[arg(short, long)]
    dry_run: bool,
    /// Remove uploads that have received nothing for so long [default: storage.maintenance.uploadpurging.age].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// File with the settings, in the format of CNCF distribution's config.yml.
    #[arg(env = "REGISTRY_CONFIGURATION_PATH")]
    file: PathBuf,
}

impl PurgeUploads {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = settings(&self.file)?;
        let older_than = self.older_than.unwrap_or(config.storage.maintenance.uploadpurging.age);
        let registry = open_storage(&config)?;
        let purged = runtime()?.block_on(purge_uploads(&registry, older_than, self.dry_run));
        let PurgedUploads { uploads, bytes, failures } = purged.context("list the repositories")?;
        let done = if self.dry_run { "would be removed" } else { "removed" };
        let noun = if uploads == 1 { "upload" } else { "uploads" };
        print(&format!("{uploads} {noun} of {} {done}\n", Size(bytes)))?;
        match failures {
            0 => Ok(()),
            _ => Err(anyhow!("{failures} repositories could not be looked at to the end").into()),
        }
    }
}
