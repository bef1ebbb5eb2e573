//! Debian's `docker-registry` (CNCF distribution 2.8) as the judge of the tree that ours writes.

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

/// A running `docker-registry`; killed on drop.
pub(crate) struct Peer {
    process: Child,
    address: SocketAddr,
    _configuration: TempDir,
}

impl Peer {
    /// Serves the tree under `root`, which another registry may have written.
    pub(crate) fn start(root: &Path) -> Self {
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
        let process = Command::new(binary())
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("create the log"))
            .spawn()
            .expect("start docker-registry");
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
            assert!(ended.is_none() && Instant::now() < deadline, "docker-registry did not start:\n{log}");
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

/// What its garbage collection prints when it runs over the tree under `root`.
pub(crate) fn collect_with_peer(root: &Path, options: &[&str]) -> String {
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("config.yml");
    let configuration = json!({
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": root}, "delete": {"enabled": true}},
    });
    fs::write(&file, configuration.to_string()).expect("write the configuration");
    let output = Command::new(binary()).arg("garbage-collect").args(options).arg(&file).output();
    let output = output.expect("run docker-registry");
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(output.status.success(), "{told}");
    told
}

/// It takes no port 0 in a way that would tell the port, so that one is chosen for it.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

/// Where the repository's own installer puts the pinned binary.
fn binary() -> PathBuf {
    let installer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/tools/install");
    let output = Command::new(&installer).arg("docker-registry").output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", installer.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let directory = String::from_utf8(output.stdout).expect("a path in UTF-8");
    Path::new(directory.trim()).join("docker-registry")
}
