//! The chapter "Push".

mod chunks;
mod damaged;
mod digests;
mod interrupted;
mod manifest_kinds;
mod manifests;
mod mounts;
mod uploads;
