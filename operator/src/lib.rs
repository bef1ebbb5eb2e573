//! Kubernetes operator for Windlass registries.
//!
//! A [`api::registry::Registry`] becomes a running server in five steps, a module each, in [`registry`]; so does a
//! `GarbageCollectionPolicy` become Jobs, in [`garbage_collection_policy`]. The rest is wiring: [`cli`] starts, [`controller`] watches, [`apply`] alone writes children, [`leader`] elects the one that acts.

pub mod advertise;
pub mod api;
pub mod apply;
pub mod children;
pub mod cli;
pub mod conditions;
pub mod context;
pub mod controller;
pub mod credential_provider;
pub mod endpoints;
pub mod fingerprint;
pub mod garbage_collection_policy;
pub mod leader;
pub mod merge;
pub mod metrics;
pub mod names;
pub mod node_access;
pub mod node_agent;
pub mod pull_access;
pub mod quantity;
pub mod registries;
pub mod registry;
pub mod telemetry;
pub mod tls;
