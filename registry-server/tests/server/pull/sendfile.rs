//! Large blobs over plain HTTP/1, which the system sends from the file by itself: whatever clients do, each gets the
//! bytes that it asked for, or a broken connection. How TLS and HTTP/2 do is told in `operations::tls`.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::net::TcpSocket;

use super::blobs::open_blobs;
use crate::harness::client::get;
use crate::harness::content::{Content, OCI_LAYER, noise};
use crate::harness::raw;
use crate::harness::server::{TestServer, eventually};

/// Lengths around those at which the way of sending changes, and one that takes several turns.
const LENGTHS: [usize; 6] = [32 << 10, (32 << 10) + 1, 512 << 10, (512 << 10) + 1, 1 << 20, (3 << 20) + 17];

/// How long a server may take with any answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A repository with one blob.
struct Pulled {
    server: TestServer,
    bytes: Bytes,
    path: String,
    digest: String,
}

impl Pulled {
    async fn of(length: usize) -> Self {
        let server = TestServer::start(json!({}));
        let blob = Content::new(OCI_LAYER, noise(length as u64, length));
        server.client().push_blob("pull/sendfile", &blob).await;
        let digest = blob.digest();
        let path = format!("/v2/pull/sendfile/blobs/{digest}");
        Self { server, bytes: blob.bytes, path, digest }
    }

    /// The file of the blob's bytes.
    fn file(&self) -> File {
        let hex = self.digest.strip_prefix("sha256:").unwrap();
        let path = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        File::options().write(true).open(self.server.root().join(path)).unwrap()
    }
}

#[tokio::test]
async fn each_length_is_served_to_the_byte() {
    for length in LENGTHS {
        let pulled = Pulled::of(length).await;
        let mut client = pulled.server.client();
        let last = length - 1;
        let ranges = [
            ("bytes=0-".to_owned(), 0..length),
            ("bytes=1-".to_owned(), 1..length),
            (format!("bytes=4095-{last}"), 4095..length),
            (format!("bytes=0-{}", last - 1), 0..last),
            (format!("bytes=-{}", length / 2 + 1), length - length / 2 - 1..length),
            (format!("bytes={last}-"), last..length),
        ];
        for (range, part) in ranges {
            let answer = client.send(get(&pulled.path).with("range", &range)).await;
            assert_eq!(answer.status, 206, "{length}: {range}");
            assert!(answer.body == pulled.bytes.slice(part), "{length}: {range}");
        }
        let answer = client.send(get(&pulled.path)).await;
        assert!(answer.body == pulled.bytes, "{length}");
        assert_eq!(client.connections_made(), 1, "{length}");
    }
}

/// One at a time, and all before the first answer is read.
#[tokio::test]
async fn answers_follow_each_other_on_one_connection() {
    let pulled = Pulled::of(2 << 20).await;
    let (path, bytes) = (&pulled.path, &pulled.bytes);
    let missing = path.replace("pull/sendfile", "pull/elsewhere");
    let (get, head, nothing) = (format!("GET {path}"), format!("HEAD {path}"), format!("HEAD {missing}"));
    let requests: [(&str, &[&str], u16, Bytes); 8] = [
        (&get, &[], 200, bytes.clone()),
        (&head, &[], 200, Bytes::new()),
        (&get, &["Range: bytes=7-1000006"], 206, bytes.slice(7..1_000_007)),
        (&get, &["Range: bytes=7-9"], 206, bytes.slice(7..10)),
        (&nothing, &[], 404, Bytes::new()),
        (&get, &["Expect: 100-continue"], 200, bytes.clone()),
        ("HEAD /v2/", &[], 200, Bytes::new()),
        (&get, &[], 200, bytes.clone()),
    ];
    for at_once in [false, true] {
        let mut socket = connect(pulled.server.address());
        let wire = requests.clone().map(|(line, headers, ..)| raw::request(line, headers, b""));
        if at_once {
            socket.write_all(&wire.concat()).unwrap();
        }
        for (request, (line, headers, status, body)) in wire.iter().zip(&requests) {
            if !at_once {
                socket.write_all(request).unwrap();
            }
            let answer = format!("HTTP/1.1 {status} ");
            let head = read_head(&mut socket);
            assert!(head.starts_with(&answer), "{line} {headers:?}: {head}");
            assert!(read(&mut socket, body.len()) == *body, "{line} {headers:?}");
        }
    }
}

#[tokio::test]
async fn clients_of_http_1_0_get_the_whole() {
    let pulled = Pulled::of(2 << 20).await;
    for (connection, stays) in [("close", false), ("keep-alive", true)] {
        let request = format!("GET {} HTTP/1.0\r\nConnection: {connection}\r\n\r\n", pulled.path);
        let mut socket = connect(pulled.server.address());
        for _ in 0..if stays { 2 } else { 1 } {
            socket.write_all(request.as_bytes()).unwrap();
            assert!(read_head(&mut socket).contains(" 200 OK"), "{connection}");
            assert!(read(&mut socket, pulled.bytes.len()) == pulled.bytes, "{connection}");
        }
        if !stays {
            assert_eq!(socket.read(&mut [0]).unwrap(), 0, "nothing comes after");
        }
    }
}

#[tokio::test]
async fn many_connections_get_their_own_parts() {
    let pulled = Pulled::of(4 << 20).await;
    let pulls = (0..16usize).map(|number| {
        let (mut client, path, bytes) = (pulled.server.client(), pulled.path.clone(), pulled.bytes.clone());
        tokio::spawn(async move {
            for round in 0..4usize {
                let start = number * 100_003 + round;
                let answer = client.send(get(&path).with("range", format!("bytes={start}-"))).await;
                assert!(answer.status == 206 && answer.body == bytes.slice(start..), "{start}");
            }
        })
    });
    for pull in pulls.collect::<Vec<_>>() {
        pull.await.unwrap();
    }
}

/// The bytes have to come from the disk, which nobody else may have to wait for.
#[tokio::test]
async fn a_blob_that_is_not_in_memory_is_read_first() {
    let pulled = Pulled::of(5 << 20).await;
    rustix::fs::fadvise(pulled.file(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let pulls = (0..4).map(|_| {
        let (mut client, path, bytes) = (pulled.server.client(), pulled.path.clone(), pulled.bytes.clone());
        tokio::spawn(async move { assert!(client.send(get(&path)).await.body == bytes) })
    });
    for pull in pulls.collect::<Vec<_>>() {
        pull.await.unwrap();
    }
}

#[tokio::test]
async fn a_slow_client_gets_all_and_keeps_nobody_waiting() {
    let pulled = Pulled::of(8 << 20).await;
    let mut slow = asking(&pulled).await;
    assert!(read_head(&mut slow).starts_with("HTTP/1.1 200 "));
    let (mut received, mut client) = (Vec::new(), pulled.server.client());
    while received.len() < pulled.bytes.len() {
        let length = (pulled.bytes.len() - received.len()).min(1 << 20);
        received.extend(read(&mut slow, length));
        let answer = client.send(get(&pulled.path)).await;
        assert!(answer.body == pulled.bytes, "the others");
    }
    assert!(received == pulled.bytes);
}

#[tokio::test]
async fn clients_that_go_away_leave_nothing_behind() {
    let pulled = Pulled::of(16 << 20).await;
    for number in 0..30 {
        let mut socket = asking(&pulled).await;
        read_head(&mut socket);
        read(&mut socket, number * 1000);
        if number % 2 == 0 {
            // Reset rather than closed.
            socket.set_nonblocking(true).unwrap();
            let socket = tokio::net::TcpStream::from_std(socket).unwrap();
            socket.set_zero_linger().unwrap();
        }
    }
    let answer = pulled.server.client().send(get(&pulled.path)).await;
    assert!(answer.body == pulled.bytes);
    eventually("their files are closed", || async { open_blobs(&pulled.server) == 0 }).await;
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_sent_breaks_only_that_connection() {
    const LEFT: usize = 1 << 20;
    let pulled = Pulled::of(16 << 20).await;
    let mut socket = asking(&pulled).await;
    assert!(read_head(&mut socket).starts_with("HTTP/1.1 200 "));
    let mut received = read(&mut socket, 1000);
    let mut other = pulled.server.client();
    assert_eq!(other.send(get("/v2/")).await.status, 200);
    pulled.file().set_len(LEFT as u64).unwrap();
    // Broken off, be it by an end or by a reset.
    let _ = socket.read_to_end(&mut received);
    assert!(received.len() < pulled.bytes.len(), "it broke off");
    assert!(pulled.bytes.starts_with(&received), "no wrong byte was sent");
    assert_eq!(other.send(get("/v2/")).await.status, 200);
    assert_eq!(other.connections_made(), 1);
}

/// A connection whose client takes little at a time, and has asked for the blob.
async fn asking(pulled: &Pulled) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let socket = socket.connect(pulled.server.address()).await.unwrap().into_std().unwrap();
    let mut socket = patient(socket);
    socket.write_all(&raw::request(&format!("GET {}", pulled.path), &[], b"")).unwrap();
    socket
}

fn connect(server: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(server).unwrap())
}

fn patient(socket: TcpStream) -> TcpStream {
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A status line and headers, and nothing behind them.
fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read(socket, 1));
    }
    String::from_utf8(head).unwrap()
}

fn read(socket: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes).unwrap();
    bytes
}
