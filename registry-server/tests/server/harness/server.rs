//! A `registry-server` process of a test's own, on ports and in a directory of its own.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_registry-server");

/// How long anything that a process does in the background may take before the test fails.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A running server; killed, and its directory removed, on drop.
pub(crate) struct TestServer {
    directory: Arc<TempDir>,
    settings: Value,
    process: Child,
    address: SocketAddr,
    debug_address: SocketAddr,
}

impl TestServer {
    /// A server on an empty directory, with `settings` merged over a configuration that allows deletes.
    pub(crate) fn start(settings: Value) -> Self {
        Self::start_in(&Arc::new(TempDir::new().expect("a temporary directory")), settings)
    }

    /// A server on a directory that may hold a tree already, or may be in use by another server.
    pub(crate) fn start_in(directory: &Arc<TempDir>, settings: Value) -> Self {
        Self::start_with(directory, settings, |serve| serve)
    }

    /// A server in a mount namespace of its own, for which a shell has run `commands` first; `$ROOT` is the directory
    /// of the storage.
    pub(crate) fn start_after(commands: &str, directory: &Arc<TempDir>, settings: Value) -> Self {
        let root = root_in(directory.path());
        fs::create_dir_all(&root).expect("make the directory of the storage");
        Self::start_with(directory, settings, |serve| {
            let mut shell = Command::new("unshare");
            // Each step becomes the next one, so that the process that is spawned is the server in the end.
            let script = format!("{commands}\nexec \"$@\"");
            shell.args(["--mount", "sh", "-euc", &script, "sh"]).env("ROOT", root);
            shell.arg(serve.get_program()).args(serve.get_args());
            shell
        })
    }

    fn start_with(directory: &Arc<TempDir>, settings: Value, wrap: impl FnOnce(Command) -> Command) -> Self {
        let file = Files::of(directory.path());
        // Others, such as a collector, may read it at this moment: it is replaced whole.
        let written = file.configuration.with_extension("new");
        fs::write(&written, configuration(directory.path(), &settings).to_string())
            .expect("write the configuration");
        fs::rename(&written, &file.configuration).expect("put the configuration in place");
        let logged_before = fs::read_to_string(&file.log).map_or(0, |log| log.len());
        let mut process = spawn(&file, wrap);
        let (address, debug_address) = addresses(&mut process, &file.log, logged_before);
        Self { directory: Arc::clone(directory), settings, process, address, debug_address }
    }

    /// A second process on the same directory.
    pub(crate) fn beside(&self) -> Self {
        Self::start_in(&self.directory, self.settings.clone())
    }

    /// Kills the process as a crash would, and starts another on its directory.
    pub(crate) fn crash_and_restart(&mut self) {
        self.kill();
        *self = self.beside();
    }

    /// `kill -9`; the directory stays.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself, which is no failure here.
        let _ = self.process.kill();
        self.process.wait().expect("the process ends");
    }

    /// `kill -TERM`, with no wait.
    pub(crate) fn terminate(&self) {
        let process = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("signal the server");
    }

    /// How the process ended, if it did before the time was over.
    pub(crate) fn exit_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().expect("look at the process") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The most memory that the process has had so far.
    pub(crate) fn most_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn debug_address(&self) -> SocketAddr {
        self.debug_address
    }

    /// The directory with the configuration, the log and the tree.
    pub(crate) fn directory(&self) -> &Arc<TempDir> {
        &self.directory
    }

    /// `storage.filesystem.rootdirectory`.
    pub(crate) fn root(&self) -> PathBuf {
        root_in(self.directory.path())
    }

    /// The same as the server sees it, with what is mounted there in its namespace.
    pub(crate) fn root_inside(&self) -> PathBuf {
        let seen = PathBuf::from(format!("/proc/{}/root", self.id()));
        seen.join(self.root().strip_prefix("/").expect("an absolute path"))
    }

    /// All that was logged by every process that ran on the directory.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(Files::of(self.directory.path()).log).unwrap_or_default()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            println!("--- end of the server's log, latest first ---\n{}", tail.join("\n"));
        }
    }
}

/// Waits for what the server does in the background; fails when it never comes true.
pub(crate) async fn eventually<F: Future<Output = bool>>(says: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {says}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `storage.filesystem.rootdirectory` of a server in `directory`.
pub(crate) fn root_in(directory: &Path) -> PathBuf {
    directory.join("root")
}

struct Files {
    configuration: PathBuf,
    log: PathBuf,
}

impl Files {
    fn of(directory: &Path) -> Self {
        Self { configuration: directory.join("config.yml"), log: directory.join("server.log") }
    }
}

/// JSON is YAML, so that the settings of a test can be merged as values.
fn configuration(directory: &Path, settings: &Value) -> Value {
    let mut configuration = json!({
        "version": "0.1",
        "log": {"formatter": "json", "level": "info"},
        "storage": {
            "filesystem": {"rootdirectory": root_in(directory)},
            "delete": {"enabled": true},
        },
        "http": {
            "addr": "127.0.0.1:0",
            "debug": {"addr": "127.0.0.1:0", "prometheus": {"enabled": true}},
        },
    });
    merge(&mut configuration, settings);
    configuration
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn spawn(file: &Files, wrap: impl FnOnce(Command) -> Command) -> Child {
    let log = File::options().create(true).append(true).open(&file.log).expect("open the log");
    let mut serve = Command::new(BINARY);
    serve.arg("serve").arg(&file.configuration);
    wrap(serve)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle of the log"))
        .stderr(log)
        .spawn()
        .expect("start the server")
}

/// Waits for the log lines that tell the ports of the registry and of the debug listener.
fn addresses(process: &mut Child, log: &Path, logged_before: usize) -> (SocketAddr, SocketAddr) {
    let deadline = Instant::now() + SOON;
    loop {
        let text = fs::read_to_string(log).unwrap_or_default().split_off(logged_before);
        let listening: Vec<SocketAddr> = text.lines().filter_map(listening).collect();
        if let [address, debug_address] = listening[..] {
            return (address, debug_address);
        }
        let ended = process.try_wait().expect("look at the process");
        if ended.is_some() || Instant::now() > deadline {
            // No server is there yet to do it on drop; it may have ended by itself.
            let _ = process.kill();
            panic!("the server did not start ({ended:?}):\n{text}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The address in a line of the JSON log that says where the server listens.
fn listening(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    let says = line["message"].as_str()?;
    says.starts_with("listening").then(|| line["addr"].as_str()?.parse().ok()).flatten()
}
