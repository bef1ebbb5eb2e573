//! Running other people's programs, as a user would.

use std::path::Path;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

/// Runs a program and returns what it wrote to its standard output.
///
/// # Errors
/// When it cannot be started or fails; the message holds all that it wrote.
pub async fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    run_command(Command::new(program).args(arguments)).await
}

/// [`run`] for a command with an environment of its own.
///
/// # Errors
/// As there.
pub async fn run_command(command: &mut Command) -> anyhow::Result<String> {
    let output = command.kill_on_drop(true).output().await.with_context(|| format!("start {command:?}"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {}\n{stdout}{stderr}", output.status);
    Ok(stdout.into_owned())
}

/// A directory with what clients need to know of one registry.
pub struct Trust(TempDir);

impl Trust {
    /// Trust in `authorities` (PEM), and in nothing else.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn new(authorities: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("ca.crt"), authorities)?;
        Ok(Self(directory))
    }

    /// The directory, in which `ca.crt` is the only file that ends so.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    /// A `skopeo copy` to or from a registry: `side` is `src` or `dest`.
    #[must_use]
    pub fn skopeo_copy(&self, side: &str) -> Command {
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet"]).arg(format!("--{side}-cert-dir")).arg(self.directory());
        command
    }

    /// A `crane` that knows the password of `user` at `address`.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn crane(&self, address: &str, user: &str, password: &str) -> anyhow::Result<Command> {
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        let configuration = json!({"auths": {address: {"auth": credentials}}});
        std::fs::write(self.directory().join("config.json"), configuration.to_string())?;
        let mut command = Command::new("crane");
        command.env("DOCKER_CONFIG", self.directory());
        command.env("SSL_CERT_FILE", self.directory().join("ca.crt")).env_remove("SSL_CERT_DIR");
        Ok(command)
    }
}
