//! The chapter "Push".

mod chunks;
mod damaged;
mod interrupted;
mod manifest_kinds;
mod manifests;
mod mounts;
mod uploads;
