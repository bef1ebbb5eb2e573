//! What keeps the nodes from being told of a Registry until somebody changes something. Each says what to do.

use crate::api::status::Reason;
use crate::apply::{self, server_message};
use crate::names::{NODE_AGENT, REPORTER};

/// Something that keeps the nodes from being told of a Registry, or of one of its names.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant is its documentation")]
pub enum Problem {
    #[error(
        "{REPORTER} was installed without the agents of the nodes; set nodeAgent.enabled=true in the chart's values"
    )]
    AgentDisabled,
    #[error(
        "ServiceAccount {NODE_AGENT} does not exist in namespace {namespace}; install the chart with \
         nodeAgent.enabled=true"
    )]
    AccountMissing { namespace: String },
    #[error("Service {service} has no address yet")]
    AddressPending { service: String },
    #[error("the nodes are told of the registry when it answers for the first time")]
    NotReady,
    #[error(
        "spec.hostnames: {host} is a name of Registry {by}, which is older; let one of them have it only"
    )]
    HostnameTaken { host: String, by: String },
    #[error(
        "the nodes are told of so many registries already that no more fit into a ConfigMap; let some of them do \
         without spec.nodeAccess"
    )]
    PlanTooLarge,
    #[error(
        "{kind} {name} in namespace {namespace} exists and does not belong to the operator; remove it if nobody needs it"
    )]
    NameTaken { kind: &'static str, name: String, namespace: String },
    #[error("{object} is refused by the API server: {message}")]
    Rejected { object: String, message: String },
}

impl Problem {
    /// What the API server refuses.
    #[must_use]
    pub fn of_refusal(error: &apply::Error) -> Self {
        Self::Rejected {
            object: format!("{} {}", error.key.0.name(), error.key.1),
            message: server_message(&error.source),
        }
    }

    /// The word for it in conditions, Events and metrics.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::AgentDisabled | Self::AccountMissing { .. } => Reason::NodeAgentMissing,
            Self::AddressPending { .. } => Reason::AddressPending,
            Self::NotReady => Reason::NodesPending,
            Self::HostnameTaken { .. } => Reason::HostnameTaken,
            Self::PlanTooLarge => Reason::PlanTooLarge,
            Self::NameTaken { .. } => Reason::NameTaken,
            Self::Rejected { .. } => Reason::Rejected,
        }
    }
}
