//! The chapter "Pull".

mod blobs;
mod manifests;
mod sendfile;
