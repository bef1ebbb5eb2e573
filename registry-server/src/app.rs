//! The composition root: settings in, services out. Nothing is global.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{self, Auth};
use crate::config::{Config, Driver};
use crate::metrics::Metrics;
use crate::registry::{PendingPulls, Registry};
use crate::storage::{self, Filesystem, Memory, Observed, Storage};

/// All that a request may need.
#[derive(Debug)]
pub struct App {
    /// The OCI rules on the storage.
    pub registry: Registry,
    /// The same on a storage that does all it is asked where it is asked: for what looks at thousands of directories,
    /// in a thread of its own.
    pub listings: Registry,
    /// Who may do what.
    pub auth: Arc<Auth>,
    /// The pulls that are still to be written down.
    pub pulls: PendingPulls,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is allowed at all, and where the API lies.
    pub settings: Settings,
}

/// The settings that requests look at.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What comes before `v2/` in every path; begins and ends with a slash.
    pub prefix: String,
    /// What comes before the path in a `Location`: nothing, or a scheme and host.
    pub location_base: String,
    /// How long a client may let the server wait for the next bytes of a body.
    pub client_timeout: Duration,
    /// Whether content may be deleted.
    pub delete_enabled: bool,
    /// Whether nothing may change.
    pub read_only: bool,
    /// The most repositories in one page.
    pub max_catalog_entries: usize,
    /// The most tags in one page that a client asks for.
    pub max_tags: usize,
    /// The largest manifest that is taken, in bytes.
    pub max_manifest_size: usize,
}

/// Why the services cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The storage cannot be used.
    #[error("failed to open the storage")]
    Storage(#[source] storage::Error),
    /// The users or the rules cannot be used.
    #[error("failed to set up authentication")]
    Auth(#[from] auth::Error),
}

impl App {
    /// Makes all services.
    ///
    /// # Errors
    /// When the storage or the file of users cannot be opened.
    pub fn build(config: &Config) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::new());
        let (driver, inner, blocking): (_, Arc<dyn Storage>, Arc<dyn Storage>) = match &config.storage.driver
        {
            Driver::Filesystem(filesystem) => {
                let opened = Filesystem::open(&filesystem.rootdirectory).map_err(Error::Storage)?;
                ("filesystem", Arc::new(opened.clone()), Arc::new(opened.for_job()))
            }
            Driver::Inmemory(_) => {
                let memory = Memory::default();
                ("inmemory", Arc::new(memory.clone()), Arc::new(memory))
            }
        };
        let observed = |storage| {
            let observer = Arc::clone(&metrics);
            Arc::new(Observed::new(storage, move |action, duration| {
                observer.storage_action(driver, action.as_str(), duration);
            }))
        };
        Ok(Self {
            listings: Registry::new(observed(blocking)),
            registry: Registry::new(observed(inner)).with_validation(config.validation.manifests.clone()),
            auth: Arc::new(Auth::new(config)?),
            pulls: PendingPulls::default(),
            metrics,
            settings: Settings::new(config),
        })
    }

    /// The registry alone, for a job that serves nobody and may block its threads.
    ///
    /// # Errors
    /// When the storage cannot be opened.
    pub fn registry_for_job(config: &Config) -> Result<Registry, Error> {
        let storage: Arc<dyn Storage> = match &config.storage.driver {
            Driver::Filesystem(filesystem) => {
                let opened = Filesystem::open(&filesystem.rootdirectory).map_err(Error::Storage)?;
                Arc::new(opened.for_job())
            }
            Driver::Inmemory(_) => Arc::new(Memory::default()),
        };
        Ok(Registry::new(storage))
    }
}

impl Settings {
    fn new(config: &Config) -> Self {
        let http = &config.http;
        let host = http.host.as_deref().filter(|_| !http.relativeurls).unwrap_or_default();
        Self {
            prefix: http.prefix.clone(),
            location_base: host.trim_end_matches('/').to_owned(),
            client_timeout: http.clienttimeout,
            delete_enabled: config.storage.delete.enabled,
            read_only: config.storage.maintenance.readonly.enabled,
            max_catalog_entries: config.catalog.maxentries,
            max_tags: config.tags.maxtags,
            max_manifest_size: config.validation.manifests.maxsize.get(),
        }
    }

    /// The address of something of the API, `path` being what comes after the server's prefix.
    #[must_use]
    pub fn location(&self, path: &str) -> String {
        format!("{}{}{path}", self.location_base, self.prefix)
    }
}
