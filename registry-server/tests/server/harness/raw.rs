//! Bytes on a socket, for what no HTTP library would send: bodies that end early, lengths that lie.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Sends the bytes and hangs up at once.
pub(crate) fn send_and_vanish(server: SocketAddr, bytes: &[u8]) {
    let mut socket = TcpStream::connect(server).expect("connect");
    socket.write_all(bytes).expect("write");
}

/// Sends the bytes, says that no more will come, and reads all that the server answers.
pub(crate) fn send_and_read(server: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(server).expect("connect");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("set a timeout");
    socket.write_all(bytes).expect("write");
    socket.shutdown(Shutdown::Write).expect("shut down writing");
    let mut answer = Vec::new();
    // A server may also answer such a request by a reset.
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request head with the given header lines, followed by the start of a body.
pub(crate) fn request(line: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{line} HTTP/1.1\r\nHost: registry.test\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}
