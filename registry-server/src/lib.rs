//! OCI registry server on CNCF distribution's storage tree.
//!
//! The modules stand in the order of reading. A module uses only those after it in this line:
//! `cli` → `http` → `app` → `registry` → `storage`, `auth`, `metrics` → `types`, `config`.

pub mod config;
pub mod registry;
pub mod storage;
pub mod types;
