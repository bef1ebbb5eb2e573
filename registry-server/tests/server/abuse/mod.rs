//! What must not bring the server down, nor anybody's content in danger: hostile clients, slow ones, too many of them,
//! and disks that fail.

mod connections;
mod manifests;
mod requests;
mod slow;
mod volume;
