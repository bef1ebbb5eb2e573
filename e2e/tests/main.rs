//! What Windlass does on a real cluster: a file for each behaviour. Run by `make e2e`.

mod advertise;
mod alone;
mod apply;
mod argocd;
mod bad_input;
mod certificate_rotation;
mod chart;
mod crd_validation;
mod deletion;
mod docs;
mod drift;
mod escape_hatches;
mod garbage_collection;
mod node_access;
mod operator_restart;
mod pull;
mod pull_access;
mod push;
mod push_resumed;
mod ready;
mod replicas;
mod scale;
mod settings;
mod tls;
mod users;
mod volume;
