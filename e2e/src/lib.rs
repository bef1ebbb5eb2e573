//! Harness of the whole-system tests: real clients and a real cluster, each test in a namespace of its own.
//!
//! It owns what tests share: reaching the cluster, waiting, clients, and saying what went wrong. What is expected of
//! Windlass stands in `tests/`, a file for each behaviour; the one exception is [`recorder`], whose rules hold for every
//! status that any test sees.
//!
//! The operator is installed before the tests run, by `e2e/install`.

pub mod argocd;
pub mod case;
pub mod cluster;
mod explain;
pub mod forward;
pub mod hello;
pub mod http;
pub mod kstatus;
pub mod namespace;
pub mod node_access;
pub mod oci;
pub mod pod;
pub mod recorder;
pub mod registry;
pub mod server;
pub mod system;
pub mod tools;
pub mod wait;
