//! OCI registry server on CNCF distribution's storage tree.

pub mod config;
