//! Pulls one blob again and again over plain HTTP from many clients at once, for the benches.
//!
//! The bytes of a body are thrown away in the kernel. A client that copies them out costs more than a server that sends a
//! file from the page cache, and on few cores it would be the client that is measured.

#![expect(clippy::expect_used, clippy::panic, reason = "a program for benches may fail with a panic")]

use std::io::{Read as _, Write as _, stdout};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::net::{RecvFlags, recv};

/// The most bytes that are thrown away in one call.
const CHUNK: usize = 1024 * 1024;
/// More bytes than the head of any answer has.
const HEAD: usize = 16 * 1024;

#[derive(Parser)]
struct Arguments {
    /// How many clients, each with a connection of its own.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// For how long.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Host and port.
    address: String,
    /// Path of the blob.
    path: String,
}

fn main() {
    let arguments = Arguments::parse();
    let begin = Instant::now();
    let end = begin + Duration::from_secs(arguments.seconds);
    let clients: Vec<_> = (0..arguments.clients)
        .map(|_| {
            let (address, path) = (arguments.address.clone(), arguments.path.clone());
            thread::spawn(move || pull_until(end, &address, &path))
        })
        .collect();
    let bytes: u64 = clients.into_iter().map(|client| client.join().expect("a client")).sum();
    writeln!(stdout(), "{bytes} {:.6}", begin.elapsed().as_secs_f64()).expect("write");
}

/// How many bytes of bodies came until the end.
fn pull_until(end: Instant, address: &str, path: &str) -> u64 {
    let mut stream = TcpStream::connect(address).expect("connect");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut buffer = vec![0; CHUNK];
    let mut pulled = 0;
    while Instant::now() < end {
        stream.write_all(request.as_bytes()).expect("send a request");
        let (length, begun) = read_head(&mut stream);
        pulled += begun;
        let mut left = length - begun;
        while left > 0 && Instant::now() < end {
            let thrown = throw_away(&stream, &mut buffer, left);
            left -= thrown;
            pulled += thrown;
        }
    }
    pulled
}

/// Reads the head of an answer, and says how long its body is and how much of it came along.
fn read_head(stream: &mut TcpStream) -> (u64, u64) {
    let mut buffer = [0; HEAD];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).expect("read the head of an answer");
        assert!(read > 0, "the server ended the connection");
        filled += read;
        let Some(end) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.and_then(|length| length.trim().parse().ok()).expect("the length of the body");
        return (length, (filled - end - 4) as u64);
    }
}

/// Nothing is written to the buffer: its size is all that matters.
fn throw_away(stream: &TcpStream, buffer: &mut [u8], left: u64) -> u64 {
    let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
    match recv(stream, &mut buffer[..most], RecvFlags::TRUNC) {
        Ok((_, 0)) => panic!("the server ended the connection in a body"),
        Ok((_, thrown)) => thrown as u64,
        Err(error) => panic!("receive: {error}"),
    }
}
