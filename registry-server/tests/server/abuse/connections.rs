//! More connections than anybody needs.

use std::net::TcpStream;
use std::sync::Arc;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::client::get;
use crate::harness::server::{SOON, TestServer, eventually};

/// How many connections are left open, where the system allows a process as many files.
const IDLE: u64 = 10_000;

/// How many files the tests beside this one and the server may have open at the same time.
const RESERVE: u64 = 1500;

/// Programs begin with a limit of 1,024 open files on most systems and may raise it, on some to no more than 4,096.
#[tokio::test]
async fn ten_thousand_idle_connections_keep_nobody_out() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let count = maximum.map_or(IDLE, |most| IDLE.min(most.saturating_sub(RESERVE)));
    let directory = Arc::new(TempDir::new().unwrap());
    let server = TestServer::start_after("ulimit -S -n 256", &directory, json!({}));
    let memory = server.most_memory_kib();
    let mut idle = Vec::new();
    for number in 0..count {
        idle.push(TcpStream::connect(server.address()).unwrap());
        if number % 200 == 0 {
            assert_eq!(server.client().send(get("/v2/")).await.status, 200, "after {number}");
        }
    }
    assert_eq!(server.client().send(get("/v2/")).await.status, 200);
    let each = (server.most_memory_kib() - memory) / count;
    assert!(each < 32, "{each} KiB for each connection");
    drop(idle);
}

/// A server that is stopped accepts nothing, as one that has no processor for a moment.
#[tokio::test]
async fn a_burst_of_connections_waits_until_the_server_has_time() {
    let server = TestServer::start(json!({}));
    let process = Pid::from_raw(i32::try_from(server.id()).unwrap()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    let connect = |_| TcpStream::connect_timeout(&server.address(), SOON).unwrap();
    let burst: Vec<TcpStream> = (0..1000).map(connect).collect();
    kill_process(process, Signal::CONT).unwrap();
    assert_eq!(server.client().send(get("/v2/")).await.status, 200);
    drop(burst);
}

/// What cannot be accepted waits; the server gives up those that say nothing, and then takes it.
#[tokio::test]
async fn a_server_out_of_file_descriptors_comes_back_by_itself() {
    let directory = Arc::new(TempDir::new().unwrap());
    let settings = json!({"http": {"clienttimeout": "1s"}});
    let server = TestServer::start_after("ulimit -n 64", &directory, settings);
    let idle: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    eventually("it runs out of them", || async { server.log().contains("could not be accepted") }).await;
    assert_eq!(server.client().send(get("/v2/")).await.status, 200);
    drop(idle);
}
