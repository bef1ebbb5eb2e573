//! Rights that Kubernetes' own rules grant, asked of the API server by a `LocalSubjectAccessReview`.
//!
//! # Guarantees
//! Nothing but an answer that says so grants anything: no answer is a [`Denial`] that says to come again. The same question
//! is asked once in [`LIFETIME`], by one request at a time.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, ResourceAttributes, SubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use kube::config::InClusterError;
use kube::{Client, Config};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::remembered::Remembered;
use super::{Denial, Identity};
use crate::config::{AccessReview, Right};
use crate::types::RepositoryName;

/// The API group of the rules, in which the operator's resources are, too.
const GROUP: &str = "windlass.dev";
/// The resource of the rules. There are no such objects.
const RESOURCE: &str = "repositories";
/// How long an answer is believed: so long, a right that was taken away still holds.
const LIFETIME: Duration = Duration::from_secs(10);
/// The longest that a request waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most questions that the API server is asked at the same time.
const MOST: usize = 32;

/// Why the API server could never be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process runs in no Pod, or in one without a token.
    #[error("auth.kubernetes.accessreview needs a Pod with a token for the API server")]
    Cluster(#[from] InClusterError),
    /// The connection cannot be set up.
    #[error("set up the connection to the API server")]
    Client(#[source] kube::Error),
    /// The system gives no random numbers.
    #[error("no random numbers for the key of remembered answers")]
    Random,
}

/// Asks the API server.
pub(super) struct Reviews {
    api: Api<LocalSubjectAccessReview>,
    settings: AccessReview,
    answers: Remembered,
    places: Semaphore,
}

impl Reviews {
    /// For a process that runs in a Pod of the cluster. It must be called within a runtime.
    ///
    /// # Errors
    /// [`Error`].
    pub(super) fn in_cluster(settings: &AccessReview) -> Result<Self, Error> {
        let client = Client::try_from(Config::incluster()?).map_err(Error::Client)?;
        Self::new(client, settings)
    }

    fn new(client: Client, settings: &AccessReview) -> Result<Self, Error> {
        Ok(Self {
            api: Api::namespaced(client, &settings.namespace),
            settings: settings.clone(),
            answers: Remembered::all(LIFETIME).map_err(|_| Error::Random)?,
            places: Semaphore::new(MOST),
        })
    }

    /// Whether the cluster's rules give the `ServiceAccount` of a token the right, in the repository or, without one, in all
    /// of the namespace's registries. Nobody else is asked for: names of users mean something else to the cluster.
    ///
    /// # Errors
    /// [`Denial::Unanswered`].
    pub(super) async fn grant(
        &self,
        caller: &Identity,
        right: Right,
        repository: Option<&RepositoryName>,
    ) -> Result<bool, Denial> {
        let Some(user) = caller.user.as_deref().filter(|_| caller.gave_token()) else { return Ok(false) };
        let verb = verb(right);
        let name = repository.map(|repository| format!("{}/{repository}", self.settings.registry));
        // Groups follow from the name of a ServiceAccount, so they are no part of the question.
        let question = [user, verb, name.as_deref().unwrap_or_default()];
        let asked = self.answers.get(&question, self.ask(caller, verb, name.as_deref()));
        // All of the wait: of those who wait for the same answer, each asks anew when the one before got none.
        match timeout(PATIENCE, asked).await {
            Ok(Ok(is_granted)) => Ok(is_granted),
            Ok(Err(error)) => {
                let error = words(error);
                tracing::warn!(user, error, "the API server could not be asked for an access review");
                Err(Denial::Unanswered)
            }
            Err(_) => {
                tracing::warn!(user, "the API server did not answer an access review in time");
                Err(Denial::Unanswered)
            }
        }
    }

    async fn ask(&self, caller: &Identity, verb: &str, name: Option<&str>) -> Result<bool, kube::Error> {
        // It is never closed, so it always gives one.
        let _place = self.places.acquire().await;
        let review = self.review(caller, verb, name);
        let answer = self.api.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    fn review(&self, caller: &Identity, verb: &str, name: Option<&str>) -> LocalSubjectAccessReview {
        let namespace = Some(self.settings.namespace.clone());
        LocalSubjectAccessReview {
            metadata: ObjectMeta { namespace: namespace.clone(), ..ObjectMeta::default() },
            spec: SubjectAccessReviewSpec {
                user: caller.user.clone(),
                groups: Some(caller.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    namespace,
                    group: Some(GROUP.to_owned()),
                    resource: Some(RESOURCE.to_owned()),
                    verb: Some(verb.to_owned()),
                    name: name.map(str::to_owned),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            status: None,
        }
    }
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reviews").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What an error says, once: a refusal would show the whole answer.
fn words(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        other => other.to_string(),
    }
}

/// The word for a right in rules of the cluster: the same as in rules of ours.
fn verb(right: Right) -> &'static str {
    match right {
        Right::Pull => "pull",
        Right::Push => "push",
        Right::Delete => "delete",
        Right::List => "list",
    }
}

/// Reviews by a cluster that is not there.
#[cfg(test)]
pub(super) fn of_nobody() -> Reviews {
    tests::reviews_at(std::net::SocketAddr::from(([127, 0, 0, 1], 1)))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};

    use futures::future::join_all;
    use http::{Method, Request, Response, StatusCode};
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::{Bytes, Incoming};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::*;

    /// What the API server of a test does.
    #[derive(Clone, Copy)]
    enum Answer {
        /// Grants what is about this name and nothing else; without a name, all that has none.
        Grants(Option<&'static str>),
        /// Says that it failed.
        Fails,
        /// Says nothing.
        Hangs,
    }

    /// An API server that knows reviews only, since a unit test has no real one.
    struct Cluster {
        address: SocketAddr,
        answer: Arc<Mutex<Answer>>,
        reviews: Arc<Mutex<Vec<(String, Value)>>>,
    }

    impl Cluster {
        async fn start(answer: Answer) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let cluster = Self { address, answer: Arc::new(Mutex::new(answer)), reviews: Arc::default() };
            let (answer, reviews) = (Arc::clone(&cluster.answer), Arc::clone(&cluster.reviews));
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (answer, reviews) = (Arc::clone(&answer), Arc::clone(&reviews));
                    let service = service_fn(move |request| {
                        let answer = *answer.lock().unwrap();
                        reply(request, answer, Arc::clone(&reviews))
                    });
                    let server = hyper::server::conn::http1::Builder::new();
                    tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
                }
            });
            cluster
        }

        fn answers(&self, answer: Answer) {
            *self.answer.lock().unwrap() = answer;
        }

        fn asked(&self) -> Vec<(String, Value)> {
            self.reviews.lock().unwrap().clone()
        }

        fn reviews(&self) -> Reviews {
            reviews_at(self.address)
        }
    }

    pub(super) fn reviews_at(address: SocketAddr) -> Reviews {
        let uri = format!("http://{address}").parse().unwrap();
        let settings = AccessReview { namespace: "team-a".into(), registry: "hub".into() };
        Reviews::new(Client::try_from(Config::new(uri)).unwrap(), &settings).unwrap()
    }

    async fn reply(
        request: Request<Incoming>,
        answer: Answer,
        reviews: Arc<Mutex<Vec<(String, Value)>>>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        assert_eq!(request.method(), Method::POST);
        let path = request.uri().path().to_owned();
        let mut review: Value =
            serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap();
        reviews.lock().unwrap().push((path, review["spec"].clone()));
        let is_granted = match answer {
            Answer::Grants(name) => {
                review["spec"]["resourceAttributes"].get("name").and_then(Value::as_str) == name
            }
            Answer::Fails => {
                let mut response = Response::new(Full::from("no"));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                return Ok(response);
            }
            Answer::Hangs => std::future::pending().await,
        };
        // A rule that leads nowhere is no failure of the review.
        review["status"] = json!({"allowed": is_granted, "evaluationError": "a role was not found"});
        Ok(Response::new(Full::from(review.to_string())))
    }

    fn token(user: &str) -> Identity {
        Identity { claims: json!({"sub": user}), ..Identity::of_service_account(user).unwrap() }
    }

    fn builder() -> Identity {
        token("system:serviceaccount:ci:builder")
    }

    fn repository() -> RepositoryName {
        "team/app".parse().unwrap()
    }

    #[tokio::test]
    async fn the_cluster_is_asked_for_exactly_what_is_wanted() {
        let cluster = Cluster::start(Answer::Grants(Some("hub/team/app"))).await;
        let reviews = cluster.reviews();
        let app = repository();
        let rows = [
            (Right::Pull, "pull", Some(&app), true),
            (Right::Push, "push", Some(&app), true),
            (Right::Delete, "delete", Some(&app), true),
            (Right::List, "list", None, false),
        ];
        for (right, verb, repository, expected) in rows {
            assert_eq!(reviews.grant(&builder(), right, repository).await, Ok(expected), "{right:?}");
            let mut attributes = json!({"namespace": "team-a", "group": "windlass.dev", "resource": "repositories", "verb": verb});
            if repository.is_some() {
                attributes["name"] = json!("hub/team/app");
            }
            let groups = ["system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated"];
            let spec = json!({
                "user": "system:serviceaccount:ci:builder", "groups": groups, "resourceAttributes": attributes,
            });
            let path = "/apis/authorization.k8s.io/v1/namespaces/team-a/localsubjectaccessreviews";
            assert_eq!(cluster.asked().last(), Some(&(path.to_owned(), spec)));
        }
        let other = "team/other".parse().unwrap();
        assert_eq!(reviews.grant(&builder(), Right::Pull, Some(&other)).await, Ok(false));
    }

    #[tokio::test]
    async fn yes_and_no_are_believed_for_a_while_and_each_question_has_its_own() {
        let cluster = Cluster::start(Answer::Grants(Some("hub/team/app"))).await;
        let reviews = cluster.reviews();
        let (app, other) = (repository(), "team/other".parse().unwrap());
        let deployer = token("system:serviceaccount:ci:deployer");
        for _ in 0..3 {
            assert_eq!(reviews.grant(&builder(), Right::Pull, Some(&app)).await, Ok(true));
            assert_eq!(reviews.grant(&builder(), Right::Pull, Some(&other)).await, Ok(false));
            assert_eq!(reviews.grant(&builder(), Right::Pull, None).await, Ok(false));
            assert_eq!(reviews.grant(&builder(), Right::Push, Some(&app)).await, Ok(true));
            assert_eq!(reviews.grant(&deployer, Right::Pull, Some(&app)).await, Ok(true));
            cluster.answers(Answer::Hangs);
        }
        assert_eq!(cluster.asked().len(), 5);
    }

    #[tokio::test]
    async fn the_same_question_is_asked_once_at_a_time() {
        let cluster = Cluster::start(Answer::Grants(Some("hub/team/app"))).await;
        let (reviews, app, caller) = (cluster.reviews(), repository(), builder());
        let answers = join_all((0..50).map(|_| reviews.grant(&caller, Right::Pull, Some(&app)))).await;
        assert!(answers.into_iter().all(|answer| answer == Ok(true)));
        assert_eq!(cluster.asked().len(), 1);
    }

    #[tokio::test]
    async fn no_answer_grants_nothing_and_is_not_kept() {
        let cluster = Cluster::start(Answer::Fails).await;
        let (reviews, app) = (cluster.reviews(), repository());
        let pull = || async { reviews.grant(&builder(), Right::Pull, Some(&app)).await };
        assert_eq!(pull().await, Err(Denial::Unanswered));
        cluster.answers(Answer::Grants(Some("hub/team/app")));
        assert_eq!(pull().await, Ok(true));
        assert_eq!(cluster.asked().len(), 2);
    }

    #[tokio::test]
    async fn an_answer_is_not_waited_for_for_long() {
        let cluster = Cluster::start(Answer::Hangs).await;
        let (reviews, app, caller) = (cluster.reviews(), repository(), builder());
        // Each waits as long as one, though each asks anew after the one before.
        let answers = join_all((0..4).map(|_| reviews.grant(&caller, Right::Pull, Some(&app)))).await;
        assert_eq!(answers, [Err(Denial::Unanswered); 4]);
        cluster.answers(Answer::Grants(Some("hub/team/app")));
        assert_eq!(reviews.grant(&caller, Right::Pull, Some(&app)).await, Ok(true));
    }

    #[tokio::test]
    async fn the_cluster_is_asked_for_tokens_only() {
        let cluster = Cluster::start(Answer::Grants(Some("hub/team/app"))).await;
        let (reviews, app) = (cluster.reviews(), repository());
        let user = Identity { user: Some("ann".into()), ..Identity::default() };
        for caller in [Identity::default(), user, Identity::of_puller("ci")] {
            assert_eq!(reviews.grant(&caller, Right::Pull, Some(&app)).await, Ok(false), "{caller:?}");
        }
        assert_eq!(cluster.asked(), []);
    }
}
