//! Asking a registry through what was written: what a runtime would do, short of pulling.

use std::error::Error;
use std::io;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use http::{Request, StatusCode};
use kube::client::Body;
use kube::{Client, Config};
use tokio::time::{sleep, timeout};

use super::layout::Target;
use crate::api::node_access::NodeReason;

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time before a registry that could not be reached is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Requests under way at the same time.
const AT_ONCE: usize = 4;

/// What an endpoint answered: a reason, and the same for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// [`NodeReason::Reached`], or why not.
    pub reason: NodeReason,
    /// What was seen, with the address.
    pub message: String,
}

/// Asks each of `targets`, which are tried for `host`. The runtime is content with the first that answers, so one is
/// enough; what the others lack is told.
///
/// A registry that is reached by none is asked once more: a node learns the address of a new Service only some moments
/// after the agent does.
pub async fn ask(targets: &[Target], host: &str) -> Answer {
    let answer = ask_all(targets, host).await;
    if answer.reason != NodeReason::Unreachable {
        return answer;
    }
    sleep(PAUSE).await;
    ask_all(targets, host).await
}

async fn ask_all(targets: &[Target], host: &str) -> Answer {
    let answers = stream::iter(targets).map(|target| ask_one(target, host)).buffered(AT_ONCE);
    let (good, bad): (Vec<Answer>, Vec<Answer>) = answers
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .partition(|answer| answer.reason == NodeReason::Reached);
    let reason = good.first().or_else(|| bad.first()).map_or(NodeReason::Unreachable, |answer| answer.reason);
    let messages: Vec<String> = good.into_iter().chain(bad).map(|answer| answer.message).collect();
    Answer { reason, message: messages.join("; ") }
}

async fn ask_one(target: &Target, host: &str) -> Answer {
    let Target { url, authorities } = target;
    let answer = |reason, message| Answer { reason, message };
    let client = match client(url, authorities.as_deref()) {
        Ok(client) => client,
        Err(problem) => return answer(NodeReason::CertificateNotTrusted, format!("{url}: {problem}")),
    };
    let Ok(request) = Request::get(format!("/v2/?ns={host}")).body(Body::empty()) else {
        return answer(NodeReason::InvalidName, format!("{url} is no address"));
    };
    match timeout(PATIENCE, client.send(request)).await {
        Err(_) => {
            let seconds = PATIENCE.as_secs();
            answer(NodeReason::Unreachable, format!("{url} does not answer within {seconds} seconds"))
        }
        Ok(Err(error)) => fault(url, &error),
        Ok(Ok(response)) => match response.status() {
            StatusCode::OK | StatusCode::UNAUTHORIZED => {
                answer(NodeReason::Reached, format!("{url} answers"))
            }
            status => answer(NodeReason::UnexpectedAnswer, format!("{url} answers {status}")),
        },
    }
}

/// A client that trusts what the file names, and else the usual authorities.
fn client(url: &str, authorities: Option<&str>) -> Result<Client, String> {
    let mut config = Config::new(url.parse().map_err(|error| format!("is no address: {error}"))?);
    config.connect_timeout = Some(PATIENCE);
    config.default_retry = false;
    if let Some(bundle) = authorities {
        let certificates = pem::parse_many(bundle).map_err(|error| error.to_string())?;
        config.root_cert = Some(certificates.into_iter().map(pem::Pem::into_contents).collect());
    }
    Client::try_from(config).map_err(|error| format!("the authorities cannot be used: {error}"))
}

/// Why there was no answer. What TLS found wrong lies below the errors of the client.
fn fault(url: &str, error: &kube::Error) -> Answer {
    let mut cause: &(dyn Error + 'static) = error;
    while let Some(next) = beneath(cause) {
        cause = next;
        if let Some(rustls::Error::InvalidCertificate(problem)) = cause.downcast_ref() {
            let message = format!("the certificate of {url} is not trusted: {problem}");
            return Answer { reason: NodeReason::CertificateNotTrusted, message };
        }
    }
    Answer { reason: NodeReason::Unreachable, message: format!("{url} does not answer: {cause}") }
}

/// The next cause. An error of the system's passes over the one that it wraps when it is asked for its source.
fn beneath<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
