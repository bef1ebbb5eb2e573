//! A registry server of a test's own on this machine, with TLS and a password: to see what clients make of it takes no
//! cluster.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::case::Outcome;
use crate::registry::{PASSWORD, USER};
use crate::tools;

/// The server's log.
const LOG: &str = "registry-server.log";

/// Keeps from the machine what daemons write outside of their home.
const OWN_DIRECTORIES: &str = "
mount -t tmpfs none /run
for name in etc opt; do
    mkdir -p /run/own/$name/upper /run/own/$name/work
    mount -t overlay -o lowerdir=/$name,upperdir=/run/own/$name/upper,workdir=/run/own/$name/work none /$name
done
";

/// How long a process may take to start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A running server, and a home for its clients; both are gone when it is dropped.
pub struct Server {
    process: Child,
    address: SocketAddr,
    home: TempDir,
}

/// Runs `body` with a server whose one user is [`USER`].
///
/// # Errors
/// What `body` returns, with the end of the server's log.
pub async fn with_server(body: impl AsyncFnOnce(&Server) -> anyhow::Result<()>) -> Outcome {
    with_settings(json!({}), body).await
}

/// [`with_server`] with sections of its configuration in place of the usual ones.
///
/// # Errors
/// As there.
pub async fn with_settings(
    sections: Value,
    body: impl AsyncFnOnce(&Server) -> anyhow::Result<()>,
) -> Outcome {
    let server = Server::start(sections).await?;
    Ok(body(&server).await.map_err(|error| anyhow!("{error:#}\n\n{}", server.end_of_log(LOG)))?)
}

impl Server {
    async fn start(sections: Value) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        write_certificate(home.path())?;
        // The least cost there is: the tests are not about bcrypt.
        std::fs::write(home.path().join("htpasswd"), format!("{USER}:{}\n", bcrypt::hash(PASSWORD, 4)?))?;
        let configuration = home.path().join("config.yml");
        let mut settings = settings(home.path());
        if let (Value::Object(settings), Value::Object(sections)) = (&mut settings, sections) {
            settings.extend(sections);
        }
        std::fs::write(&configuration, settings.to_string())?;
        let log = std::fs::File::create(home.path().join(LOG))?;
        let program = program()?;
        let mut command = Command::new(&program);
        command.arg("serve").arg(&configuration).stdout(log.try_clone()?).stderr(log);
        let process = command.kill_on_drop(true).spawn();
        let process =
            process.with_context(|| format!("start {}; `make binaries` builds it", program.display()))?;
        let mut server = Self { process, address: ([0; 4], 0).into(), home };
        server.address = server.started().await?;
        Ok(server)
    }

    /// Waits for the line in the log that tells the port.
    async fn started(&mut self) -> anyhow::Result<SocketAddr> {
        let deadline = Instant::now() + START;
        loop {
            let log = std::fs::read_to_string(self.path(LOG))?;
            if let Some(address) = log.lines().find_map(listening) {
                return Ok(address);
            }
            let ended = self.process.try_wait()?;
            ensure!(ended.is_none() && Instant::now() < deadline, "the server did not start: {log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Host and port, as they stand in the name of an image.
    #[must_use]
    pub fn address(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// A file or directory in the home of the clients, where `ca.crt` is the authority that they trust.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs a client at home and returns what it wrote to its standard output. A space ends an argument.
    ///
    /// # Errors
    /// When it cannot be started or fails; the message holds all that it wrote.
    pub async fn run(&self, line: &str) -> anyhow::Result<String> {
        tools::run_command(&mut self.command(line)).await
    }

    /// Runs a client that must fail, with `word` in what it writes, in letters of any case.
    ///
    /// # Errors
    /// When it does not.
    pub async fn refuses(&self, line: &str, word: &str) -> anyhow::Result<()> {
        let error = self.run(line).await.err().with_context(|| format!("not refused: {line}"))?;
        let written = format!("{error:#}").to_lowercase();
        ensure!(written.contains(word), "{word:?} is not said:\n{written}");
        Ok(())
    }

    /// Runs a client and returns what it wrote to its standard error.
    ///
    /// # Errors
    /// When it cannot be started or fails.
    pub async fn run_for_log(&self, line: &str) -> anyhow::Result<String> {
        let output = self.command(line).kill_on_drop(true).output().await?;
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{line}: {}\n{log}", output.status);
        Ok(log)
    }

    /// Starts the daemon that a client needs by a shell script, and waits until the client's `probe` finds it. Its
    /// processes and mounts are a world of their own, which ends with what is returned.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn daemon(&self, name: &str, script: &str, probe: &str) -> anyhow::Result<Child> {
        let log_name = format!("{name}.log");
        let log = std::fs::File::create(self.path(&log_name))?;
        let mut command = self.command("unshare --mount --pid --fork --kill-child --mount-proc sh -euc");
        command
            .arg(format!("{OWN_DIRECTORIES}{script}"))
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        let mut process = command.spawn()?;
        let deadline = Instant::now() + START;
        while let Err(error) = self.run(probe).await {
            let ended = process.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                return Err(error.context(format!("{name} did not start; {}", self.end_of_log(&log_name))));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(process)
    }

    /// A program with its arguments, at home: all state of all clients is there, and they trust the authority.
    #[must_use]
    pub fn command(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir(self.home.path()).stdin(Stdio::null());
        command.env("HOME", self.home.path()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_RUNTIME_DIR");
        command
            .env("DOCKER_CONFIG", self.path(".docker"))
            .env("REGISTRY_AUTH_FILE", self.path(".docker/config.json"));
        let [docker, buildkit, containerd] =
            ["docker", "buildkit", "containerd"].map(|daemon| self.path(&format!("{daemon}.sock")));
        command.env("DOCKER_HOST", format!("unix://{}", docker.display()));
        command.env("BUILDKIT_HOST", format!("unix://{}", buildkit.display()));
        command.env("CONTAINERD_ADDRESS", containerd);
        command.env("SSL_CERT_FILE", self.path("ca.crt")).env_remove("SSL_CERT_DIR");
        command
    }

    fn end_of_log(&self, name: &str) -> String {
        let log = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("the end of {name}:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }
}

/// The program in dist/, or `$SERVER`.
fn program() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built =
        ["amd64", "arm64"].map(|architecture| root.join("dist").join(architecture).join("registry-server"));
    let program = std::env::var_os("SERVER").map(PathBuf::from);
    program.or_else(|| built.into_iter().find(|path| path.exists())).context("no server: `make binaries`")
}

/// JSON is YAML.
fn settings(home: &Path) -> Value {
    json!({
        "version": "0.1",
        "log": {"formatter": "json"},
        "storage": {"filesystem": {"rootdirectory": home.join("registry")}, "delete": {"enabled": true}},
        "auth": {"htpasswd": {"path": home.join("htpasswd")}},
        "http": {
            "addr": "127.0.0.1:0",
            "tls": {"certificate": home.join("tls.crt"), "key": home.join("tls.key")},
        },
    })
}

/// Writes an authority, which the clients trust, and a certificate of it.
fn write_certificate(home: &Path) -> anyhow::Result<()> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "the authority of the clients' tests");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = ["localhost", "127.0.0.1"].map(ToOwned::to_owned);
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    std::fs::write(home.join("ca.crt"), authority.pem())?;
    std::fs::write(home.join("tls.crt"), certificate.pem())?;
    std::fs::write(home.join("tls.key"), key.serialize_pem())?;
    Ok(())
}

/// The address in a line of the log that says where the server listens.
fn listening(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["message"].as_str()?.starts_with("listening").then(|| line["addr"].as_str()?.parse().ok()).flatten()
}
