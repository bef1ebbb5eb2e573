//! The table runner. A row is a [`Case`]: the section of the OCI distribution specification 1.1 it is about, what
//! it says, and the exchanges that show it. Adding a test is adding a row. All rows of a table run, and those that
//! failed are reported together.

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::client::{Answer, Client, Request};
use super::promises;
use super::server::TestServer;

/// A row of a table.
pub(crate) struct Case {
    section: &'static str,
    says: String,
    steps: Vec<Step>,
}

/// A row: `section` of the specification, what it says, the exchanges in their order.
pub(crate) fn case(
    section: &'static str,
    says: impl Into<String>,
    steps: impl IntoIterator<Item = Step>,
) -> Case {
    Case { section, says: says.into(), steps: steps.into_iter().collect() }
}

/// A request, and what has to hold for its answer.
pub(crate) struct Step {
    request: Request,
    expectations: Vec<Expectation>,
}

/// What is expected, in words, and whether an answer is so.
type Expectation = (String, Box<dyn Fn(&Answer) -> bool + Send>);

impl Request {
    /// The status that the answer has to have.
    pub(crate) fn gives(self, status: u16) -> Step {
        self.gives_one_of(&[status])
    }

    /// Where the specification leaves a choice.
    pub(crate) fn gives_one_of(self, statuses: &[u16]) -> Step {
        let statuses = statuses.to_vec();
        let step = Step { request: self, expectations: Vec::new() };
        step.and(format!("status {statuses:?}"), move |answer| statuses.contains(&answer.status))
    }
}

impl Step {
    /// Any further condition, and how to say it.
    pub(crate) fn and(
        mut self,
        expected: impl Into<String>,
        holds: impl Fn(&Answer) -> bool + Send + 'static,
    ) -> Self {
        self.expectations.push((expected.into(), Box::new(holds)));
        self
    }

    pub(crate) fn header(self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        self.and(format!("{name}: {value}"), move |answer| answer.header(name) == Some(&value))
    }

    pub(crate) fn some_header(self, name: &'static str) -> Self {
        self.and(format!("a header {name}"), move |answer| answer.headers.contains_key(name))
    }

    pub(crate) fn no_header(self, name: &'static str) -> Self {
        self.and(format!("no header {name}"), move |answer| !answer.headers.contains_key(name))
    }

    pub(crate) fn body(self, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        self.and(format!("the {} bytes of the body", body.len()), move |answer| answer.body == body)
    }

    pub(crate) fn json(self, body: Value) -> Self {
        self.and(format!("the body {body}"), move |answer| {
            serde_json::from_slice::<Value>(&answer.body).is_ok_and(|answered| answered == body)
        })
    }

    /// The one error code of the answer.
    pub(crate) fn code(self, code: &'static str) -> Self {
        self.codes(&[code])
    }

    /// The error codes of the answer, in their order.
    pub(crate) fn codes(self, codes: &[&'static str]) -> Self {
        let codes = codes.to_vec();
        self.and(format!("the codes {codes:?}"), move |answer| answer.codes() == codes)
    }
}

/// Runs all rows against the server and fails with those that did not hold.
pub(crate) async fn check(server: &TestServer, cases: impl IntoIterator<Item = Case>) {
    let mut failures = Vec::new();
    for case in cases {
        if let Err(failure) = run(server, case.steps).await {
            failures.push(format!("\n  [{}] {}\n{failure}", case.section, case.says));
        }
    }
    assert!(failures.is_empty(), "{} rows failed:{}", failures.len(), failures.concat());
}

async fn run(server: &TestServer, steps: Vec<Step>) -> Result<(), String> {
    let mut client = server.client();
    for (number, step) in steps.into_iter().enumerate() {
        let (method, shown) = (step.request.method().clone(), step.request.to_string());
        let answer = client.try_send(step.request).await;
        let answer = answer.map_err(|error| format!("    step {}: {shown}: {error:?}", number + 1))?;
        let unmet = unmet(&method, &answer, &step.expectations);
        if !unmet.is_empty() {
            let unmet = unmet.join("\n      ! ");
            return Err(format!("    step {}: {shown}\n      = {answer}\n      ! {unmet}", number + 1));
        }
    }
    Ok(())
}

fn unmet(method: &Method, answer: &Answer, expectations: &[Expectation]) -> Vec<String> {
    let unmet = expectations.iter().filter(|(_, holds)| !holds(answer)).map(|(expected, _)| expected.clone());
    unmet.chain(promises::broken(method, answer)).collect()
}

impl TestServer {
    /// A client on a connection of its own.
    pub(crate) fn client(&self) -> Client {
        Client::of(self.address())
    }
}
