//! Password files: no line keeps the others from being read.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use registry_server::auth::Auth;
use registry_server::config::{Config, Htpasswd};
use tempfile::TempDir;

static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().unwrap());

fuzz_target!(|text: &str| {
    let path: PathBuf = DIRECTORY.path().join("htpasswd");
    fs::write(&path, text).unwrap();
    let mut config = Config::default();
    config.auth.htpasswd = Some(Htpasswd { realm: text.lines().next().unwrap_or_default().to_owned(), path });
    let auth = Auth::new(&config).unwrap();
    assert!(auth.challenge().is_some());
});
