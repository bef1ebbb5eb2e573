//! The chapter "Content Management".

mod blobs;
mod manifests;
mod refused;
mod tags;
