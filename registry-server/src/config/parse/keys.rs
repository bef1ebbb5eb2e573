//! Keys that [`Config`](crate::config::Config) does not have: distribution's that this server does not serve, and
//! those that nobody knows.

use std::slice;

use serde_json::Value;

use super::nearest::nearest;
use super::shape::Shape;
use super::sources::Sources;
use crate::config::error::{Error, Origin, Problem, Warning};

/// Storage drivers, ours and those of distribution.
pub(super) const DRIVERS: [&str; 7] = ["filesystem", "inmemory", "s3", "gcs", "azure", "oss", "swift"];

/// What becomes of a key that only distribution serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Support {
    /// Nothing is lost without it.
    Needless,
    /// The server works without it, but someone may miss it: a warning.
    Unused,
    /// Without it, others could reach the content, or it would lie elsewhere: the server does not start.
    Refused(&'static str),
}

const OTHER_DRIVER: Support =
    Support::Refused("not a driver of this server, expected filesystem or inmemory");
const OTHER_AUTH: Support =
    Support::Refused("not a way of authentication of this server, expected htpasswd or none");

/// Distribution's keys that are not in [`Config`](crate::config::Config), each for all that is under it and not named
/// after it. Checks have two names each: that of the file and that of variables.
pub(in crate::config) const UNSUPPORTED: [(&str, Support); 34] = [
    ("auth.none", Support::Needless),
    ("auth.silly", OTHER_AUTH),
    ("auth.token", OTHER_AUTH),
    ("compatibility", Support::Unused),
    ("health.file", Support::Unused),
    ("health.filecheckers", Support::Unused),
    ("health.http", Support::Unused),
    ("health.httpcheckers", Support::Unused),
    ("health.tcp", Support::Unused),
    ("health.tcpcheckers", Support::Unused),
    ("http.h2c", Support::Unused),
    ("http.secret", Support::Needless),
    ("http.tls.letsencrypt", Support::Refused("certificates are not fetched, expected certificate and key")),
    ("log.hooks", Support::Unused),
    ("log.reportcaller", Support::Unused),
    ("middleware", Support::Unused),
    ("notifications", Support::Unused),
    ("policy", Support::Unused),
    ("proxy", Support::Unused),
    ("proxy.remoteurl", Support::Refused("this server is not a mirror of another")),
    ("redis", Support::Unused),
    ("reporting", Support::Unused),
    ("storage.azure", OTHER_DRIVER),
    ("storage.cache", Support::Unused),
    ("storage.filesystem.maxthreads", Support::Unused),
    ("storage.gcs", OTHER_DRIVER),
    ("storage.oss", OTHER_DRIVER),
    ("storage.redirect", Support::Unused),
    ("storage.s3", OTHER_DRIVER),
    ("storage.swift", OTHER_DRIVER),
    ("storage.tag", Support::Unused),
    ("validation.disabled", Support::Unused),
    ("validation.enabled", Support::Unused),
    ("validation.manifests.urls", Support::Unused),
];

/// Takes out of `settings` what is not known, with a warning for each.
///
/// # Errors
/// [`Error::Refused`] for a key whose absence would change who may do what, or where content lies. That includes
/// unknown keys of the file under `storage` and `auth`, since distribution takes each for a driver. Variables of
/// such names may be of another's making (Kubernetes makes some for a Service `registry-auth`): they only warn.
pub(super) fn check(
    settings: &mut Value,
    shape: Shape<'_>,
    sources: &Sources<'_>,
) -> Result<Vec<Warning>, Error> {
    let mut unknown = Vec::new();
    take_unknown(settings, shape, &mut Vec::new(), &mut unknown);
    let judged = unknown.into_iter().filter_map(|path| {
        let origin = sources.key(&path);
        let key = path.join(".");
        match support(&path, &key, &origin) {
            Some(Support::Needless) => None,
            Some(Support::Unused) => Some(Ok(Warning { origin, key, problem: Problem::Unused })),
            Some(Support::Refused(reason)) => Some(Err(Error::Refused { origin, key, reason })),
            None => {
                let nearest = nearest(&key, shape);
                Some(Ok(Warning { origin, key, problem: Problem::Unknown { nearest } }))
            }
        }
    });
    judged.collect()
}

fn support(path: &[String], key: &str, origin: &Origin) -> Option<Support> {
    let listed = UNSUPPORTED.iter().rfind(|(name, _)| is_under(key, name)).map(|(_, support)| *support);
    listed.or_else(|| match (path, origin) {
        ([section, _], Origin::File { .. }) if section == "storage" => Some(OTHER_DRIVER),
        ([section, _], Origin::File { .. }) if section == "auth" => Some(OTHER_AUTH),
        _ => None,
    })
}

/// Whether `key` is `name` or a key under it, both written with dots.
fn is_under(key: &str, name: &str) -> bool {
    key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Moves the paths of unknown keys into `unknown`. Those that hold nothing are dropped, but for drivers, which are
/// chosen by their name alone.
fn take_unknown(value: &mut Value, shape: Shape<'_>, path: &mut Vec<String>, unknown: &mut Vec<Vec<String>>) {
    let Value::Object(members) = value else { return };
    if shape.is_map() {
        return;
    }
    let is_choice = matches!(path.as_slice(), [section] if section == "storage" || section == "auth");
    members.retain(|key, value| {
        path.push(key.clone());
        let member = shape.member(key);
        match member {
            Some(member) => take_unknown(value, member, path, unknown),
            None if is_blank(value) && !is_choice => {}
            None if is_divided(&path.join(".")) => {
                let members = value.as_object().into_iter().flatten().filter(|(_, value)| !is_blank(value));
                unknown.extend(members.map(|(key, _)| [path.as_slice(), slice::from_ref(key)].concat()));
            }
            None => unknown.push(path.clone()),
        }
        path.pop();
        member.is_some()
    });
}

/// Whether keys under `key` fare differently.
fn is_divided(key: &str) -> bool {
    UNSUPPORTED.iter().any(|(name, _)| *name != key && is_under(name, key))
}

/// Whether nothing is set in `value`.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.values().all(is_blank),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
