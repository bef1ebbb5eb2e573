//! Black-box tests of the `registry-server` binary, over real sockets.
//!
//! The chapters of the OCI distribution specification 1.1 are the folders `pull`, `push`, `discovery` and
//! `management`; a file in them is named as the family of endpoints it is about. `base` is what comes before the
//! chapters, `operations` what an operator of the server relies on, `abuse` what must not bring it down,
//! `distribution_interop`, `collection_interop`, `in_turns` and `crash` are about the tree on disk.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "these are tests"
)]

mod abuse;
mod base;
mod collection_interop;
mod crash;
mod discovery;
mod distribution_interop;
mod harness;
mod in_turns;
mod management;
mod operations;
mod pull;
mod push;
