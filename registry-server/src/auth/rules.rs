//! Rules of access: who may do what in which repositories. What no rule grants is refused.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::Identity;
use crate::config::{AccessRule, Right, Subject, SubjectKind};
use crate::types::repository_glob::ParseGlobError;
use crate::types::{RepositoryGlob, RepositoryName};

/// The glob that is about every repository.
pub(super) const EVERYWHERE: &str = "**";

/// The most globs that are kept of those that hold a caller's name.
const CAPACITY: usize = 1024;

/// What a glob can hold of the caller, in braces.
const VARIABLES: [(&str, Variable); 3] = [
    ("user", Variable::User),
    ("namespace", Variable::Namespace),
    ("serviceaccount", Variable::ServiceAccount),
];

/// A rule that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Error {
    /// Where in the section `access`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Rules that were found sound.
pub(super) struct Rules {
    rules: Vec<Rule>,
    /// Globs with the names of callers in them, by their text.
    callers: Mutex<HashMap<String, RepositoryGlob>>,
}

#[derive(Debug)]
struct Rule {
    subjects: Vec<Subject>,
    repositories: Vec<Pattern>,
    rights: Vec<Right>,
}

#[derive(Debug)]
enum Pattern {
    Everywhere,
    Same(RepositoryGlob),
    /// Differs from caller to caller.
    Caller(Vec<Part>),
}

/// A part of a glob.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(Variable),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    User,
    Namespace,
    ServiceAccount,
}

impl Rules {
    /// Reads the rules.
    ///
    /// # Errors
    /// When a rule names nobody, no repository or no action, a subject says too little or too much, or a glob cannot be
    /// read.
    pub(super) fn compile(rules: &[AccessRule]) -> Result<Self, Error> {
        let rules =
            rules.iter().enumerate().map(|(index, rule)| Rule::compile(&format!("rules[{index}]"), rule));
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, callers: Mutex::default() })
    }

    /// Whether the caller has the right, in the repository or, without one, anywhere.
    pub(super) fn grant(&self, caller: &Identity, right: Right, repository: Option<&RepositoryName>) -> bool {
        let is_covered = |pattern: &Pattern| repository.is_none_or(|name| self.covers(pattern, caller, name));
        self.applying(caller, right).any(|rule| rule.repositories.iter().any(is_covered))
    }

    /// Whether the caller has the right in every repository that there may be.
    pub(super) fn grant_everywhere(&self, caller: &Identity, right: Right) -> bool {
        let is_everywhere = |pattern: &Pattern| matches!(pattern, Pattern::Everywhere);
        self.applying(caller, right).any(|rule| rule.repositories.iter().any(is_everywhere))
    }

    fn applying(&self, caller: &Identity, right: Right) -> impl Iterator<Item = &Rule> {
        let is_capped = caller.only_pulls() && right != Right::Pull;
        self.rules.iter().filter(move |rule| {
            !is_capped
                && rule.rights.contains(&right)
                && rule.subjects.iter().any(|subject| is_about(subject, caller))
        })
    }

    fn covers(&self, pattern: &Pattern, caller: &Identity, repository: &RepositoryName) -> bool {
        match pattern {
            Pattern::Everywhere => true,
            Pattern::Same(glob) => glob.matches(repository),
            Pattern::Caller(parts) => {
                filled_in(parts, caller).is_some_and(|glob| self.caller_has(glob, repository))
            }
        }
    }

    /// Whether a glob that holds a caller's name is about the repository.
    fn caller_has(&self, text: String, repository: &RepositoryName) -> bool {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(glob) = callers.get(&text) {
            return glob.matches(repository);
        }
        // That it can be read was found when the rule was; a name is escaped.
        let Ok(glob) = text.parse::<RepositoryGlob>() else { return false };
        if callers.len() >= CAPACITY {
            callers.clear();
        }
        callers.entry(text).or_insert(glob).matches(repository)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rules").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Rule {
    fn compile(field: &str, rule: &AccessRule) -> Result<Self, Error> {
        let error =
            |part: &str, reason: &str| Error { field: format!("{field}.{part}"), reason: reason.into() };
        let AccessRule { subjects, repositories, actions } = rule;
        if subjects.is_empty() {
            return Err(error("subjects", "it names nobody; kind Anonymous stands for everyone"));
        }
        if repositories.is_empty() {
            return Err(error("repositories", "it names no repository; ** stands for all"));
        }
        if actions.is_empty() {
            return Err(error("actions", "it allows nothing; actions are pull, push, delete and list"));
        }
        for (index, subject) in subjects.iter().enumerate() {
            check(subject).map_err(|reason| error(&format!("subjects[{index}]"), reason))?;
        }
        let patterns = repositories.iter().enumerate().map(|(index, glob)| {
            Pattern::compile(glob).map_err(|reason| error(&format!("repositories[{index}]"), &reason))
        });
        Ok(Self {
            subjects: subjects.clone(),
            repositories: patterns.collect::<Result<_, _>>()?,
            rights: actions.clone(),
        })
    }
}

impl Pattern {
    fn compile(glob: &str) -> Result<Self, String> {
        let parts = parts(glob)?;
        let probe: String =
            parts.iter().map(|part| if let Part::Text(text) = part { text } else { "x" }).collect();
        let compiled: RepositoryGlob = probe.parse().map_err(|error: ParseGlobError| error.to_string())?;
        Ok(if parts.iter().any(|part| matches!(part, Part::Variable(_))) {
            Self::Caller(parts)
        } else if glob == EVERYWHERE {
            Self::Everywhere
        } else {
            Self::Same(compiled)
        })
    }
}

/// Says what a subject lacks, or has and must not have.
fn check(subject: &Subject) -> Result<(), &'static str> {
    let Subject { kind, name, namespace, value } = subject;
    match kind {
        _ if value.is_some() != (*kind == SubjectKind::Claim) => {
            Err("a Claim needs a value, and nothing else has one")
        }
        SubjectKind::Claim if !name.as_ref().is_some_and(|name| name.starts_with('/')) => {
            Err("a Claim needs a name that is a JSON Pointer, such as /kubernetes.io/node/name")
        }
        SubjectKind::User | SubjectKind::Group if name.is_none() => Err("a User and a Group need a name"),
        SubjectKind::Authenticated | SubjectKind::Anonymous if name.is_some() => {
            Err("Authenticated and Anonymous have no name")
        }
        SubjectKind::ServiceAccount => Ok(()),
        _ if namespace.is_some() => Err("only a ServiceAccount has a namespace"),
        _ => Ok(()),
    }
}

fn is_about(subject: &Subject, caller: &Identity) -> bool {
    let is = |asked: &Option<String>, actual: Option<&str>| asked.is_none() || asked.as_deref() == actual;
    match subject.kind {
        SubjectKind::User => caller.user.is_some() && caller.user == subject.name,
        SubjectKind::Group => subject.name.as_ref().is_some_and(|name| caller.groups.contains(name)),
        SubjectKind::ServiceAccount => caller.service_account().is_some_and(|(namespace, name)| {
            is(&subject.namespace, Some(namespace)) && is(&subject.name, name)
        }),
        SubjectKind::Claim => {
            subject.name.as_ref().zip(subject.value.as_ref()).is_some_and(|(name, value)| {
                caller.claims.pointer(name).is_some_and(|claim| is_value(claim, value))
            })
        }
        SubjectKind::Authenticated => caller.user.is_some(),
        SubjectKind::Anonymous => true,
    }
}

/// Whether a claim is what a rule asks for, or a list that holds it.
fn is_value(claim: &Value, asked: &str) -> bool {
    match claim {
        Value::String(text) => text == asked,
        Value::Number(number) => number.to_string() == asked,
        Value::Bool(is_true) => is_true.to_string() == asked,
        Value::Array(elements) => {
            elements.iter().any(|element| !element.is_array() && is_value(element, asked))
        }
        Value::Null | Value::Object(_) => false,
    }
}

/// The text between variables, and the variables.
fn parts(glob: &str) -> Result<Vec<Part>, String> {
    let mut parts = vec![Part::Text(String::new())];
    let mut rest = glob;
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, after) = after.split_once('}').ok_or("a brace is not closed")?;
        push_text(&mut parts, before);
        match VARIABLES.iter().find(|(name, _)| *name == inside) {
            Some((_, variable)) => parts.push(Part::Variable(*variable)),
            // Alternatives, as in a shell.
            None if inside.contains(',') => push_text(&mut parts, &format!("{{{inside}}}")),
            None => {
                let known = VARIABLES.map(|(name, _)| format!("{{{name}}}")).join(", ");
                return Err(format!("{{{inside}}} stands for nothing; there are {known}"));
            }
        }
        rest = after;
    }
    push_text(&mut parts, rest);
    Ok(parts)
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(last)) => last.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

/// The glob for one caller; `None` if the caller has not what it asks for.
fn filled_in(parts: &[Part], caller: &Identity) -> Option<String> {
    let account = caller.service_account();
    let value = |variable: Variable| match variable {
        Variable::User => caller.user.as_deref(),
        Variable::Namespace => account.map(|(namespace, _)| namespace),
        Variable::ServiceAccount => account.and_then(|(_, name)| name),
    };
    let filled = parts.iter().map(|part| match part {
        Part::Text(text) => Some(text.clone()),
        Part::Variable(variable) => value(*variable).map(RepositoryGlob::escape),
    });
    filled.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules(rules: &Value) -> Result<Rules, Error> {
        let rules: Vec<AccessRule> = serde_json::from_value(rules.clone()).unwrap();
        Rules::compile(&rules)
    }

    fn user(name: &str) -> Identity {
        Identity { user: Some(name.to_owned()), ..Identity::default() }
    }

    fn service_account(namespace: &str, name: &str) -> Identity {
        Identity::of_service_account(&format!("system:serviceaccount:{namespace}:{name}")).unwrap()
    }

    #[test]
    fn a_rule_grants_its_actions_to_its_subjects_in_its_repositories() {
        use Right::{Delete, List, Pull, Push};
        let rules = rules(&json!([
            {"subjects": [{"kind": "User", "name": "ann"}], "repositories": ["**"], "actions": ["pull", "push", "delete", "list"]},
            {"subjects": [{"kind": "User", "name": "bob"}], "repositories": ["team/*", "base"], "actions": ["pull", "push"]},
            {"subjects": [{"kind": "Group", "name": "system:serviceaccounts:ci"}], "repositories": ["built/**"], "actions": ["push"]},
            {"subjects": [{"kind": "ServiceAccount", "namespace": "ci", "name": "deleter"}], "repositories": ["built/**"], "actions": ["delete"]},
            {"subjects": [{"kind": "ServiceAccount"}], "repositories": ["{namespace}/**", "of/{serviceaccount}"], "actions": ["pull"]},
            {"subjects": [{"kind": "ServiceAccount", "namespace": "ops"}], "repositories": ["ops-{a,b}"], "actions": ["pull"]},
            {"subjects": [{"kind": "Authenticated"}], "repositories": ["home/{user}/**"], "actions": ["push"]},
            {"subjects": [{"kind": "Anonymous"}], "repositories": ["public/**"], "actions": ["pull", "list"]},
        ]))
        .unwrap();
        let (nobody, ann, bob) = (Identity::default(), user("ann"), user("bob"));
        let (builder, deleter) = (service_account("ci", "builder"), service_account("ci", "deleter"));
        let ops = service_account("ops", "default");
        let rows = [
            (&ann, Delete, Some("any/thing"), true),
            (&bob, Pull, Some("team/app"), true),
            (&bob, Push, Some("base"), true),
            (&bob, Pull, Some("team/app/part"), false),
            (&bob, Delete, Some("team/app"), false),
            (&bob, Push, Some("home/bob/app"), true),
            (&bob, Push, Some("home/ann/app"), false),
            (&builder, Push, Some("built/app"), true),
            (&builder, Delete, Some("built/app"), false),
            (&deleter, Delete, Some("built/app"), true),
            (&builder, Pull, Some("ci/app"), true),
            (&builder, Pull, Some("of/builder"), true),
            (&builder, Pull, Some("ops/app"), false),
            (&ops, Pull, Some("ops-b"), true),
            (&ops, Push, Some("built/app"), false),
            (&bob, Pull, Some("public/app"), true),
            (&nobody, Pull, Some("public/app"), true),
            (&nobody, Push, Some("public/app"), false),
            (&nobody, Push, Some("home/app"), false),
            (&nobody, List, None, true),
            (&nobody, Delete, None, false),
            (&ann, Delete, None, true),
        ];
        for (caller, right, repository, expected) in rows {
            let name = repository.map(|name| name.parse().unwrap());
            assert_eq!(
                rules.grant(caller, right, name.as_ref()),
                expected,
                "{caller:?} {right:?} {repository:?}"
            );
        }
        assert!(rules.grant_everywhere(&ann, Pull) && !rules.grant_everywhere(&bob, Pull));
    }

    #[test]
    fn a_puller_is_any_service_account_of_its_namespace_and_only_pulls() {
        use Right::{Delete, List, Pull, Push};
        let all = [Pull, Push, Delete, List];
        let rule = |subject: Value, repository: &str| json!({"subjects": [subject], "repositories": [repository], "actions": ["pull", "push", "delete", "list"]});
        let account = |namespace: &str| json!({"kind": "ServiceAccount", "namespace": namespace});
        let rows = [
            (rule(account("team-a"), "**"), true),
            (rule(account("team-b"), "**"), false),
            (rule(json!({"kind": "ServiceAccount"}), "{namespace}/**"), true),
            (rule(json!({"kind": "ServiceAccount"}), "team-b/**"), false),
            (rule(json!({"kind": "ServiceAccount"}), "{namespace}/{serviceaccount}"), false),
            (rule(json!({"kind": "ServiceAccount", "namespace": "team-a", "name": "builder"}), "**"), false),
            (rule(json!({"kind": "ServiceAccount", "name": "builder"}), "**"), false),
            (rule(json!({"kind": "Group", "name": "system:serviceaccounts"}), "**"), true),
            (rule(json!({"kind": "Group", "name": "system:serviceaccounts:team-a"}), "**"), true),
            (rule(json!({"kind": "Group", "name": "system:serviceaccounts:team-b"}), "**"), false),
            (rule(json!({"kind": "Group", "name": "system:authenticated"}), "**"), true),
            (rule(json!({"kind": "Authenticated"}), "**"), true),
            (rule(json!({"kind": "Authenticated"}), "{user}/**"), false),
            (rule(json!({"kind": "Anonymous"}), "**"), true),
        ];
        let puller = Identity::of_puller("team-a");
        let own = "team-a/app".parse().unwrap();
        for (rule, pulls) in rows {
            let rules = rules(&json!([rule])).unwrap();
            let granted = all.map(|right| rules.grant(&puller, right, Some(&own)));
            assert_eq!(granted, [pulls, false, false, false], "{rule}");
            assert!(!rules.grant_everywhere(&puller, Push), "{rule}");
        }
    }

    #[test]
    fn a_claim_is_about_the_tokens_that_have_its_value() {
        let claims = json!({
            "aud": ["one", 2, ["three"]], "exp": 1_700_000_000, "admin": true, "ratio": 0.5, "nothing": null, "a/b~c": "d",
            "kubernetes.io": {"namespace": "ci", "node": {"name": "node-1"}},
        });
        let token = Identity { claims, ..service_account("ci", "builder") };
        let rows = [
            ("/kubernetes.io/node/name", "node-1", true),
            ("/kubernetes.io/node/name", "node-2", false),
            ("/kubernetes.io/node/name", "node-10", false),
            ("/kubernetes.io/node/uid", "node-1", false),
            ("/kubernetes.io/node", r#"{"name":"node-1"}"#, false),
            ("/kubernetes.io/node/name/0", "n", false),
            ("/a~1b~0c", "d", true),
            ("/a/b~c", "d", false),
            ("/aud", "one", true),
            ("/aud", "2", true),
            ("/aud", "three", false),
            ("/aud", r#"["one",2,["three"]]"#, false),
            ("/aud/0", "one", true),
            ("/exp", "1700000000", true),
            ("/exp", "1.7e9", false),
            ("/ratio", "0.5", true),
            ("/admin", "true", true),
            ("/admin", "True", false),
            ("/nothing", "null", false),
            ("/missing", "null", false),
        ];
        let name = "team/app".parse().unwrap();
        for (pointer, value, expected) in rows {
            let rules = rules(&json!([
                {"subjects": [{"kind": "Claim", "name": pointer, "value": value}], "repositories": ["**"], "actions": ["pull"]},
            ]))
            .unwrap();
            assert_eq!(rules.grant(&token, Right::Pull, Some(&name)), expected, "{pointer} {value}");
            for other in [Identity::default(), user("ann"), Identity::of_puller("ci")] {
                assert!(!rules.grant(&other, Right::Pull, Some(&name)), "{other:?} {pointer} {value}");
            }
        }
    }

    #[test]
    fn a_name_in_a_glob_is_only_a_name() {
        let rules = rules(&json!([
            {"subjects": [{"kind": "Authenticated"}], "repositories": ["{user}/**"], "actions": ["pull"]},
        ]))
        .unwrap();
        let team = "team/app".parse().unwrap();
        for name in ["**", "*", "{a,team}", "[a-z]", "?"] {
            assert!(!rules.grant(&user(name), Right::Pull, Some(&team)), "{name}");
        }
        assert!(!rules.grant(&Identity::default(), Right::Pull, Some(&team)));
    }

    #[test]
    fn globs_of_any_number_of_callers_are_right() {
        let rules = rules(&json!([
            {"subjects": [{"kind": "Authenticated"}], "repositories": ["{user}/**"], "actions": ["pull"]},
        ]))
        .unwrap();
        for number in 0..CAPACITY + 10 {
            let name = format!("u{number}");
            let own = format!("{name}/app").parse().unwrap();
            assert!(rules.grant(&user(&name), Right::Pull, Some(&own)));
            assert!(!rules.grant(&user("u"), Right::Pull, Some(&own)));
        }
        assert!(rules.callers.lock().unwrap().len() <= CAPACITY);
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused_where_they_are() {
        let ann = json!([{"kind": "User", "name": "ann"}]);
        let rows = [
            (
                json!({"subjects": [], "repositories": ["**"], "actions": ["pull"]}),
                "rules[0].subjects: it names nobody",
            ),
            (
                json!({"subjects": ann, "repositories": [], "actions": ["pull"]}),
                "rules[0].repositories: it names no repository",
            ),
            (
                json!({"subjects": ann, "repositories": ["**"], "actions": []}),
                "rules[0].actions: it allows nothing",
            ),
            (
                json!({"subjects": [{"kind": "Group"}], "repositories": ["**"], "actions": ["pull"]}),
                "rules[0].subjects[0]: a User and a Group need a name",
            ),
            (
                json!({"subjects": [{"kind": "Anonymous", "name": "a"}], "repositories": ["**"], "actions": ["pull"]}),
                "rules[0].subjects[0]: Authenticated and Anonymous have no name",
            ),
            (
                json!({"subjects": [{"kind": "User", "name": "a", "namespace": "b"}], "repositories": ["**"], "actions": ["pull"]}),
                "rules[0].subjects[0]: only a ServiceAccount has a namespace",
            ),
            (
                json!({"subjects": [{"kind": "Claim", "name": "/a", "value": "b", "namespace": "c"}], "repositories": ["**"], "actions": ["pull"]}),
                "rules[0].subjects[0]: only a ServiceAccount has a namespace",
            ),
            (
                json!({"subjects": [{"kind": "Claim", "name": "/a"}], "repositories": ["**"], "actions": ["pull"]}),
                "rules[0].subjects[0]: a Claim needs a value, and nothing else has one",
            ),
            (
                json!({"subjects": [{"kind": "ServiceAccount", "value": "b"}], "repositories": ["**"], "actions": ["pull"]}),
                "rules[0].subjects[0]: a Claim needs a value, and nothing else has one",
            ),
            (
                json!({"subjects": [{"kind": "Claim", "value": "b"}], "repositories": ["**"], "actions": ["pull"]}),
                "rules[0].subjects[0]: a Claim needs a name that is a JSON Pointer",
            ),
            (
                json!({"subjects": [{"kind": "Claim", "name": "a.b", "value": "c"}], "repositories": ["**"], "actions": ["pull"]}),
                "rules[0].subjects[0]: a Claim needs a name that is a JSON Pointer",
            ),
            (
                json!({"subjects": ann, "repositories": ["a", "{namspace}/**"], "actions": ["pull"]}),
                "rules[0].repositories[1]: {namspace} stands for nothing; there are {user}, {namespace}, {serviceaccount}",
            ),
            (
                json!({"subjects": ann, "repositories": ["{user"], "actions": ["pull"]}),
                "rules[0].repositories[0]: a brace is not closed",
            ),
            (
                json!({"subjects": ann, "repositories": ["[a"], "actions": ["pull"]}),
                "rules[0].repositories[0]: unclosed character class",
            ),
        ];
        for (rule, expected) in rows {
            let error = rules(&json!([rule])).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
