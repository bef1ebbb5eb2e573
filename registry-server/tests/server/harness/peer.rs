//! CNCF distribution as the judge of the tree that ours writes: Debian's `docker-registry` (2.8) and the latest.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use super::client::Client;
use super::server::SOON;

/// `http.secret` of the peer: it signs the state of an upload into the upload's URL.
pub(crate) const SECRET: &str = "a secret that both sides of a test know";

/// Which of its releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edition {
    /// Debian's `docker-registry`, 2.8.
    Debian,
    /// The pinned 3.1.
    Latest,
}

impl Edition {
    /// The program, from where the repository's own installer puts it.
    fn command(self) -> Command {
        let program = match self {
            Self::Debian => installed("docker-registry").join("docker-registry"),
            Self::Latest => installed("distribution").join("registry"),
        };
        let mut command = Command::new(program);
        // By default 3.1 looks for somebody who takes its traces.
        command.env("OTEL_TRACES_EXPORTER", "none").stdin(Stdio::null());
        command
    }
}

/// A running registry of theirs; killed on drop.
pub(crate) struct Peer {
    process: Child,
    address: SocketAddr,
    _configuration: TempDir,
}

impl Peer {
    /// Serves the tree under `root`, which another registry may have written, by Debian's.
    pub(crate) fn start(root: &Path) -> Self {
        Self::of(Edition::Debian, root)
    }

    /// As [`Peer::start`], by the edition.
    pub(crate) fn of(edition: Edition, root: &Path) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let address = free_address();
        let file = directory.path().join("config.yml");
        let configuration = json!({
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": root}, "delete": {"enabled": true}},
            "http": {"addr": address, "secret": SECRET},
        });
        fs::write(&file, configuration.to_string()).expect("write the configuration");
        let log = directory.path().join("log");
        let process = edition
            .command()
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("create the log"))
            .spawn()
            .expect("start the peer");
        let mut peer = Self { process, address, _configuration: directory };
        peer.wait_until_it_answers(&log);
        peer
    }

    pub(crate) fn client(&self) -> Client {
        Client::of(self.address)
    }

    fn wait_until_it_answers(&mut self, log: &Path) {
        let deadline = Instant::now() + SOON;
        while TcpStream::connect(self.address).is_err() {
            let ended = self.process.try_wait().expect("look at the process");
            let log = fs::read_to_string(log).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "the peer did not start:\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself, which is no failure here.
        let _ = self.process.kill();
        self.process.wait().expect("the process ends");
    }
}

/// What its garbage collection prints when it runs over the tree under `root`, as an error if it fails.
pub(crate) fn collect_with_peer(edition: Edition, root: &Path, options: &[&str]) -> Result<String, String> {
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("config.yml");
    let configuration = json!({
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": root}, "delete": {"enabled": true}},
    });
    fs::write(&file, configuration.to_string()).expect("write the configuration");
    let output = edition.command().arg("garbage-collect").args(options).arg(&file).output();
    let output = output.expect("run the peer");
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    if output.status.success() { Ok(told) } else { Err(told) }
}

/// It takes no port 0 in a way that would tell the port, so that one is chosen for it.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

/// Where the repository's own installer puts the programs of a concern.
fn installed(concern: &str) -> PathBuf {
    let installer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/tools/install");
    let output = Command::new(&installer).arg(concern).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", installer.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let directory = String::from_utf8(output.stdout).expect("a path in UTF-8");
    PathBuf::from(directory.trim())
}
