//! OCI registry server on CNCF distribution's storage tree.
//!
//! The modules stand in the order of reading. A module uses only those after it in this line:
//! `cli` → `http`, `background` → `app` → `maintenance` → `registry` → `storage`, `auth`, `metrics` → `types`, `config`.

#[cfg(all(feature = "without-second-check", not(debug_assertions)))]
compile_error!(
    "`without-second-check` loses pushes: it is there for a test, and no release is built with it"
);

pub mod app;
pub mod auth;
pub mod background;
pub mod cli;
pub mod config;
pub mod http;
pub mod maintenance;
pub mod metrics;
pub mod registry;
pub mod storage;
pub mod telemetry;
pub mod types;
