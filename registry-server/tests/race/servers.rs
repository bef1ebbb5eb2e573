//! The processes of the race, and those who kill and stop them.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::harness::client::Client;
use crate::harness::content::Random;
use crate::harness::server::{BINARY, TestServer};

/// How long something lies unused before it may be condemned, and then again before it is deleted.
pub(crate) const GRACE: &str = "1s";

/// How long the race goes.
#[derive(Debug)]
pub(crate) struct Course {
    until: Instant,
    ended: AtomicBool,
}

impl Course {
    pub(crate) fn new(length: Duration) -> Arc<Self> {
        Arc::new(Self { until: Instant::now() + length, ended: AtomicBool::new(false) })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.ended.load(Ordering::Relaxed) || Instant::now() >= self.until
    }

    /// Ends it before its time.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Two servers on one directory. Each lock is held only by who kills its server, and to look up its address.
pub(crate) struct Servers {
    servers: [Mutex<TestServer>; 2],
}

impl Servers {
    pub(crate) fn start() -> Arc<Self> {
        let one = TestServer::start(json!({"log": {"accesslog": {"disabled": true}}}));
        let other = one.beside();
        Arc::new(Self { servers: [Mutex::new(one), Mutex::new(other)] })
    }

    /// A client of one of them.
    pub(crate) fn any(&self, random: &mut Random) -> Client {
        self.client(usize::try_from(random.below(2)).expect("small"))
    }

    pub(crate) fn client(&self, number: usize) -> Client {
        Client::of(self.servers[number].lock().expect("nobody panics").address())
    }

    /// `storage.filesystem.rootdirectory`.
    pub(crate) fn root(&self) -> PathBuf {
        self.servers[0].lock().expect("nobody panics").root()
    }

    fn directory(&self) -> PathBuf {
        self.servers[0].lock().expect("nobody panics").directory().path().to_owned()
    }

    /// Kills and stops servers until the race is over; gives how often it did each.
    pub(crate) async fn torment(self: Arc<Self>, seed: u64, course: Arc<Course>) -> (u64, u64) {
        let mut random = Random::seeded(seed);
        let (mut kills, mut stops) = (0, 0);
        while !course.is_over() {
            tokio::time::sleep(Duration::from_millis(100 + random.below(900))).await;
            let number = usize::try_from(random.below(2)).expect("small");
            if random.below(3) == 0 {
                kills += 1;
                let servers = Arc::clone(&self);
                let killing =
                    move || servers.servers[number].lock().expect("nobody panics").crash_and_restart();
                tokio::task::spawn_blocking(killing).await.expect("the server starts again");
            } else {
                stops += 1;
                let id = self.servers[number].lock().expect("nobody panics").id();
                stop_for(id, long(&mut random)).await;
            }
        }
        (kills, stops)
    }

    /// Starts a collector with the options.
    pub(crate) fn collector(&self, options: &[&str]) -> Child {
        let directory = self.directory();
        // Whoever was killed cannot have given its lease back; safety must not depend on leases.
        let _ = std::fs::remove_file(self.root().join("windlass/lease"));
        let log = File::create(directory.join("collector.log")).expect("create the collector's log");
        Command::new(BINARY)
            .args(["garbage-collect", "--delete-untagged", "--quiet"])
            .args(options)
            .arg(directory.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("start a collector")
    }

    /// What went wrong on the servers, for whoever has to find out why.
    pub(crate) fn troubles(&self) -> String {
        let log = self.servers[0].lock().expect("nobody panics").log();
        let troubles = log.lines().filter(|line| !line.contains(r#""level":"INFO""#));
        troubles.collect::<Vec<_>>().join("\n")
    }

    /// What the latest collector has to say.
    pub(crate) fn collectors_log(&self) -> String {
        std::fs::read_to_string(self.directory().join("collector.log")).unwrap_or_default()
    }
}

/// Runs of the garbage collection, and what became of them.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    pub(crate) finished: u64,
    pub(crate) killed: u64,
    pub(crate) stopped: u64,
}

/// Starts collector after collector until the race is over. Some are killed; some are stopped, and go on while others
/// run.
pub(crate) async fn collect(servers: Arc<Servers>, seed: u64, course: Arc<Course>) -> Runs {
    let mut random = Random::seeded(seed);
    let (mut runs, mut usual, mut stopped) = (Runs::default(), Duration::from_millis(200), Vec::new());
    while !course.is_over() {
        let (begin, mut run) = (Instant::now(), servers.collector(&["--grace-period", GRACE]));
        let moment = usual.mul_f64(f64::from(u32::try_from(random.below(1000)).expect("small")) / 1000.0);
        match random.below(6) {
            0 => {
                tokio::time::sleep(moment).await;
                run.kill().expect("kill a collector");
                run.wait().expect("it ends");
                runs.killed += 1;
            }
            1 => {
                let time = long(&mut random);
                stopped.push(tokio::spawn(async move {
                    tokio::time::sleep(moment).await;
                    stop_for(run.id(), time).await;
                    wait(&mut run).await;
                }));
                // It has to stand still before another removes its lease.
                tokio::time::sleep(moment).await;
                runs.stopped += 1;
            }
            _ => {
                let success = wait(&mut run).await;
                let log = servers.collectors_log();
                assert!(success || log.contains("lease"), "a run of the garbage collection failed:\n{log}");
                usual = begin.elapsed();
                runs.finished += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(random.below(300))).await;
    }
    for run in stopped {
        run.await.expect("it goes on and ends");
    }
    runs
}

/// Waits for the end of the process, and says whether it was a good one.
pub(crate) async fn wait(process: &mut Child) -> bool {
    loop {
        if let Some(status) = process.try_wait().expect("look at the process") {
            return status.success();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn stop_for(process: u32, time: Duration) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process");
    // It may have ended by itself.
    let _ = kill_process(process, Signal::STOP);
    tokio::time::sleep(time).await;
    let _ = kill_process(process, Signal::CONT);
}

/// A time in which others do two runs at least: one that condemns, one that deletes.
fn long(random: &mut Random) -> Duration {
    Duration::from_millis(2500 + random.below(1500))
}
