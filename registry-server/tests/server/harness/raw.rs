//! Bytes on a socket, for what no HTTP library would send: bodies that end early, lengths that lie.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection on which each side takes its turn.
pub(crate) struct Socket(TcpStream);

impl Socket {
    pub(crate) fn connect(server: SocketAddr) -> Self {
        let socket = TcpStream::connect(server).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        Self(socket)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("write");
    }

    /// The next status line and headers, read byte by byte so that nothing behind them is taken.
    pub(crate) fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("read a head");
            head.extend(byte);
        }
        String::from_utf8(head).expect("a head in ASCII")
    }
}

impl Socket {
    /// Whether the server still takes this.
    pub(crate) fn is_open_for(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// All that comes until the server closes the connection, which it has to.
    pub(crate) fn read_to_end(&mut self) -> String {
        let mut answer = Vec::new();
        match self.0.read_to_end(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the connection stays open"),
            // A server that has not read all that was sent closes by a reset.
            _ => String::from_utf8_lossy(&answer).into_owned(),
        }
    }
}

/// Sends the bytes and hangs up at once.
pub(crate) fn send_and_vanish(server: SocketAddr, bytes: &[u8]) {
    let mut socket = TcpStream::connect(server).expect("connect");
    socket.write_all(bytes).expect("write");
}

/// Sends the bytes, says that no more will come, and reads all that the server answers.
pub(crate) fn send_and_read(server: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(server).expect("connect");
    socket.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
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
