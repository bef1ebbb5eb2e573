//! Section `log`: what is logged, and how.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The server's own log, on standard error, and the access log, on standard output.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Log {
    /// Least severity that is logged.
    pub level: Level,
    /// Form of each line.
    pub formatter: Formatter,
    /// Fields put into every line of the server's log, such as `environment: staging`.
    pub fields: BTreeMap<String, serde_json::Value>,
    /// One line for each request.
    pub accesslog: AccessLog,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Failures of the server.
    Error,
    /// Also what someone should look at.
    Warn,
    /// Also the course of things.
    #[default]
    Info,
    /// Also each step.
    Debug,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Formatter {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line. Distribution's `logstash` is read as this.
    #[serde(alias = "logstash")]
    Json,
}

/// The log of requests. It does not depend on `level`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct AccessLog {
    /// Whether requests are left out of the log.
    pub disabled: bool,
}
