//! Telling the nodes of the cluster how to reach the Registries that ask for it.

pub mod distribution;
pub mod plan;
