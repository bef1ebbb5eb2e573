//! Who may do what: credentials in, an identity or a denial out.
//!
//! Nothing here knows HTTP but the one line of [`Auth::challenge`], and nothing is decided elsewhere.

use std::fmt;

use serde_json::Value;

use crate::config::{self, AccessRule, Anonymous, Config, Right, Subject, SubjectKind};
use crate::types::RepositoryName;

mod followed;
mod htpasswd;
mod kubernetes;
pub mod pull_secrets;
mod remembered;
mod reviews;
mod rules;

pub use htpasswd::is_valid_user;
use htpasswd::{Htpasswd, Overloaded};
use kubernetes::Kubernetes;
use pull_secrets::PullSecrets;
use reviews::Reviews;
pub use rules::Error as RuleError;
use rules::Rules;

/// What a client sent to say who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Basic {
        /// The name.
        user: String,
        /// The password, or a token.
        password: String,
    },
    /// A token alone.
    Bearer(String),
}

impl Credentials {
    /// Whether these are none: podman and skopeo answer a challenge with an empty name and password when they have
    /// no others.
    fn are_blank(&self) -> bool {
        matches!(self, Self::Basic { user, password } if user.is_empty() && password.is_empty())
    }

    /// The token that they are, if they are one. The name beside it does not matter: clients ask for one.
    fn token(&self) -> Option<&str> {
        match self {
            Self::Basic { password, .. } => {
                Some(password.as_str()).filter(|password| kubernetes::is_token(password))
            }
            Self::Bearer(token) => Some(token),
        }
    }

    /// The password of a pull secret that they are, if they are one. The name beside it does not matter either.
    fn pull_secret(&self) -> Option<&str> {
        match self {
            Self::Basic { password, .. } => {
                Some(password.as_str()).filter(|password| pull_secrets::is_one(password))
            }
            Self::Bearer(_) => None,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => {
                formatter.debug_struct("Basic").field("user", user).finish_non_exhaustive()
            }
            Self::Bearer(_) => formatter.debug_struct("Bearer").finish_non_exhaustive(),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user whose credentials were right; nothing for one who sent none.
    pub user: Option<String>,
    /// The groups that the user is in.
    pub groups: Vec<String>,
    /// What the user's token says, all of it; null for one who gave none.
    pub claims: Value,
}

/// What the names of all `ServiceAccount`s begin with. No user of a password file has such a name: a colon ends it there.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// What the groups of all `ServiceAccount`s of a namespace begin with, and the users that stand for all of them.
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts:";

impl Identity {
    /// The `ServiceAccount` of the given name, with the groups that Kubernetes puts it in; `None` if it is none's name.
    fn of_service_account(user: &str) -> Option<Self> {
        let mut identity = Self { user: Some(user.to_owned()), ..Self::default() };
        let (namespace, _) = identity.service_account().filter(|(_, name)| name.is_some())?;
        identity.groups = groups(namespace);
        Some(identity)
    }

    /// Whoever runs in a namespace and pulls: one of its `ServiceAccount`s, it is not known which.
    fn of_puller(namespace: &str) -> Self {
        let user = Some(format!("{SERVICE_ACCOUNTS}{namespace}"));
        Self { user, groups: groups(namespace), ..Self::default() }
    }

    /// Namespace and name of the `ServiceAccount` that the user is; no name for one that is only known to be in the
    /// namespace.
    fn service_account(&self) -> Option<(&str, Option<&str>)> {
        let user = self.user.as_deref()?;
        if let Some(namespace) = user.strip_prefix(SERVICE_ACCOUNTS) {
            return Some((namespace, None));
        }
        let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
        Some((namespace, Some(name)))
    }

    /// Whether it is known by the token of a `ServiceAccount`.
    fn gave_token(&self) -> bool {
        !self.claims.is_null()
    }

    /// Whether it may never do anything but pull, whatever rules grant: its password lies in every namespace that asked
    /// for it, for many to read.
    fn only_pulls(&self) -> bool {
        matches!(self.service_account(), Some((_, None)))
    }
}

/// The groups that Kubernetes puts the `ServiceAccount`s of a namespace in.
fn groups(namespace: &str) -> Vec<String> {
    let own = format!("{SERVICE_ACCOUNTS}{namespace}");
    vec!["system:serviceaccounts".to_owned(), own, "system:authenticated".to_owned()]
}

/// Why a request may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// There are no credentials, or they are wrong: others may help.
    Unauthenticated,
    /// The credentials are right, but do not give the right.
    Forbidden,
    /// Too many others are asking at the same time: the same credentials may help later.
    Overloaded,
    /// The cluster does not say whether it gives the right: the same credentials may help later.
    Unanswered,
}

/// Why nobody can be let in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The users cannot be read.
    #[error(transparent)]
    Htpasswd(#[from] htpasswd::Error),
    /// The cluster's keys cannot be read.
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::Error),
    /// The pull secrets cannot be read.
    #[error(transparent)]
    PullSecrets(#[from] pull_secrets::Error),
    /// The cluster cannot be asked.
    #[error(transparent)]
    Reviews(#[from] reviews::Error),
    /// A rule cannot be meant.
    #[error("access.{0}")]
    Rules(#[from] RuleError),
}

/// Decides over requests.
#[derive(Debug)]
pub struct Auth {
    htpasswd: Option<Htpasswd>,
    kubernetes: Option<Kubernetes>,
    pull_secrets: Option<PullSecrets>,
    /// Nothing when nobody is asked who they are.
    challenge: Option<String>,
    rules: Rules,
    /// What the cluster's own rules grant beyond.
    reviews: Option<Reviews>,
}

impl Auth {
    /// Reads the users of the section `auth` and the rules of the section `access`.
    ///
    /// # Errors
    /// When a rule cannot be meant, a file cannot be read, or the cluster is to be asked and cannot be. (CNCF distribution
    /// makes a password file that is missing, with a password of its own.)
    pub fn new(config: &Config) -> Result<Self, Error> {
        let rules = rules(config)?;
        let config::Auth { htpasswd, kubernetes, pullsecrets } = &config.auth;
        let review = kubernetes.as_ref().and_then(|settings| settings.accessreview.as_ref());
        Ok(Self {
            challenge: realm(&config.auth).map(|realm| format!("Basic realm={}", quoted(realm))),
            htpasswd: htpasswd.as_ref().map(|settings| Htpasswd::open(&settings.path)).transpose()?,
            kubernetes: kubernetes.as_ref().map(Kubernetes::open).transpose()?,
            pull_secrets: pullsecrets
                .as_ref()
                .map(|settings| PullSecrets::open(&settings.path))
                .transpose()?,
            rules,
            reviews: review.map(Reviews::in_cluster).transpose()?,
        })
    }

    /// Who asks. A registry that knows no users does not look at credentials either.
    ///
    /// # Errors
    /// [`Denial::Unauthenticated`] when the credentials are wrong, also for what needs none, so that a mistyped password
    /// shows; [`Denial::Overloaded`].
    pub async fn authenticate(&self, credentials: Option<&Credentials>) -> Result<Identity, Denial> {
        let credentials = credentials.filter(|credentials| !credentials.are_blank());
        let (Some(_), Some(credentials)) = (&self.challenge, credentials) else {
            return Ok(Identity::default());
        };
        if let (Some(kubernetes), Some(token)) = (&self.kubernetes, credentials.token()) {
            return kubernetes.verify(token).ok_or(Denial::Unauthenticated);
        }
        if let (Some(secrets), Some(password)) = (&self.pull_secrets, credentials.pull_secret()) {
            return secrets.verify(password).ok_or(Denial::Unauthenticated);
        }
        let (Some(htpasswd), Credentials::Basic { user, password }) = (&self.htpasswd, credentials) else {
            return Err(Denial::Unauthenticated);
        };
        match htpasswd.verify(user, password).await {
            Ok(true) => Ok(Identity { user: Some(user.clone()), ..Identity::default() }),
            Ok(false) => Err(Denial::Unauthenticated),
            Err(Overloaded) => Err(Denial::Overloaded),
        }
    }

    /// Lets the caller go on who has a right in a repository or, without one, anywhere; without a right, whoever is known:
    /// clients send credentials only after they were refused without.
    ///
    /// It does not depend on what there is, so that who may not know of a repository cannot find out.
    ///
    /// # Errors
    /// [`Denial`] says whether other credentials could help.
    pub async fn authorize(
        &self,
        caller: &Identity,
        right: Option<Right>,
        repository: Option<&RepositoryName>,
    ) -> Result<(), Denial> {
        let is_stranger = caller.user.is_none() && self.challenge.is_some();
        match right {
            None if !is_stranger => Ok(()),
            Some(right) if self.may(caller, right, repository).await? => Ok(()),
            _ if is_stranger => Err(Denial::Unauthenticated),
            _ => Err(Denial::Forbidden),
        }
    }

    /// Whether the caller has the right in the repository or, without one, anywhere.
    ///
    /// # Errors
    /// [`Denial::Unanswered`].
    pub async fn may(
        &self,
        caller: &Identity,
        right: Right,
        repository: Option<&RepositoryName>,
    ) -> Result<bool, Denial> {
        Ok(self.rules.grant(caller, right, repository)
            || self.cluster_grants(caller, right, repository).await?)
    }

    /// Whether the caller has the right in every repository that there may be.
    ///
    /// # Errors
    /// [`Denial::Unanswered`].
    pub async fn may_everywhere(&self, caller: &Identity, right: Right) -> Result<bool, Denial> {
        Ok(self.rules.grant_everywhere(caller, right) || self.cluster_grants(caller, right, None).await?)
    }

    /// Whether a rule gives the caller the right in the repository: the cluster is not asked.
    #[must_use]
    pub fn may_by_rule(&self, caller: &Identity, right: Right, repository: &RepositoryName) -> bool {
        self.rules.grant(caller, right, Some(repository))
    }

    async fn cluster_grants(
        &self,
        caller: &Identity,
        right: Right,
        repository: Option<&RepositoryName>,
    ) -> Result<bool, Denial> {
        match &self.reviews {
            // On the heap: every request holds room for this future, and few need it.
            Some(reviews) => Box::pin(reviews.grant(caller, right, repository)).await,
            None => Ok(false),
        }
    }

    /// The value of `WWW-Authenticate` that asks for credentials; nothing if none are ever needed.
    #[must_use]
    pub fn challenge(&self) -> Option<&str> {
        self.challenge.as_deref()
    }
}

/// Proves that the rules of the section `access` can be meant.
///
/// # Errors
/// [`RuleError`] says which cannot, and why.
pub fn check(config: &Config) -> Result<(), RuleError> {
    rules(config).map(drop)
}

/// The rules, and those that go without saying.
fn rules(config: &Config) -> Result<Rules, RuleError> {
    use Right::{Delete, List, Pull, Push};
    let everywhere = |kind: SubjectKind, actions: &[Right]| AccessRule {
        subjects: vec![Subject { kind, ..Subject::default() }],
        repositories: vec![rules::EVERYWHERE.to_owned()],
        actions: actions.to_vec(),
    };
    let mut all = config.access.rules.clone();
    let kubernetes = config.auth.kubernetes.as_ref();
    let has_review = kubernetes.is_some_and(|settings| settings.accessreview.is_some());
    if all.is_empty() && kubernetes.is_some() && !has_review {
        let reason = "auth.kubernetes needs some, or auth.kubernetes.accessreview: without, all that runs in the \
                      cluster could delete everything";
        return Err(RuleError { field: "rules".to_owned(), reason: reason.to_owned() });
    }
    if all.is_empty() && !has_review {
        let is_open = realm(&config.auth).is_none();
        let everyone = if is_open { SubjectKind::Anonymous } else { SubjectKind::Authenticated };
        all.push(everywhere(everyone, &[Pull, Push, Delete, List]));
    }
    if config.access.anonymous == Anonymous::Pull {
        all.push(everywhere(SubjectKind::Anonymous, &[Pull, List]));
    }
    Rules::compile(&all)
}

/// The name of what is protected; nothing if everyone is let in.
fn realm(auth: &config::Auth) -> Option<&str> {
    let realm = auth.htpasswd.as_ref().map(|settings| settings.realm.as_str());
    let realm = realm.or_else(|| auth.kubernetes.as_ref().map(|settings| settings.audience.as_str()));
    realm.or_else(|| auth.pullsecrets.as_ref().map(|_| "Registry"))
}

/// A quoted string (RFC 9110 §5.6.4) of ASCII only, which is all that every client reads.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Password `secret`, at the lowest cost.
    fn password_file() -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "ann:{}", bcrypt::hash("secret", 4).unwrap()).unwrap();
        file
    }

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic { user: user.to_owned(), password: password.to_owned() }
    }

    fn auth(file: &tempfile::NamedTempFile, anonymous: Anonymous) -> Auth {
        let htpasswd = config::Htpasswd { realm: "Our \"realm\"".into(), path: file.path().into() };
        Auth::new(&Config {
            auth: config::Auth { htpasswd: Some(htpasswd), ..config::Auth::default() },
            access: config::Access { anonymous, rules: Vec::new() },
            ..Config::default()
        })
        .unwrap()
    }

    #[tokio::test]
    async fn rights_follow_from_credentials_action_and_anonymous_access() {
        use Right::{Delete, List, Pull, Push};
        let file = password_file();
        let right = Some(basic("ann", "secret"));
        let wrong = Some(basic("ann", "wrong"));
        let stranger = Some(basic("bob", "secret"));
        let blank = Some(basic("", ""));
        let all = [Some(Pull), Some(Push), Some(Delete), Some(List), None];
        let name = "team/app".parse().unwrap();
        let rows = [
            (Anonymous::None, &None, [false; 5]),
            (Anonymous::None, &blank, [false; 5]),
            (Anonymous::None, &right, [true; 5]),
            (Anonymous::None, &wrong, [false; 5]),
            (Anonymous::None, &stranger, [false; 5]),
            (Anonymous::Pull, &None, [true, false, false, true, false]),
            (Anonymous::Pull, &blank, [true, false, false, true, false]),
            (Anonymous::Pull, &right, [true; 5]),
            (Anonymous::Pull, &wrong, [false; 5]),
            (Anonymous::Pull, &stranger, [false; 5]),
        ];
        for (anonymous, credentials, allowed) in rows {
            let auth = auth(&file, anonymous);
            let caller = auth.authenticate(credentials.as_ref()).await;
            if let Ok(Identity { user: Some(user), .. }) = &caller {
                assert_eq!(user, "ann");
            }
            for (right, allowed) in all.into_iter().zip(allowed) {
                let answer = match &caller {
                    Ok(caller) => auth.authorize(caller, right, Some(&name)).await,
                    Err(denial) => Err(*denial),
                };
                let expected = if allowed { Ok(()) } else { Err(Denial::Unauthenticated) };
                assert_eq!(answer, expected, "{anonymous:?} {credentials:?} {right:?}");
            }
        }
    }

    #[tokio::test]
    async fn without_users_everyone_may_do_everything() {
        let auth = Auth::new(&Config::default()).unwrap();
        let anyone = basic("any", "one");
        for credentials in [None, Some(&anyone)] {
            let caller = auth.authenticate(credentials).await.unwrap();
            assert_eq!(caller, Identity::default());
            assert_eq!(auth.authorize(&caller, Some(Right::Delete), None).await, Ok(()));
        }
        assert_eq!(auth.challenge(), None);
    }

    #[test]
    fn tokens_of_a_whole_cluster_need_rules() {
        let check_with = |accessreview: Option<config::AccessReview>| {
            let (issuer, audience, jwks) = ("i".to_owned(), "a".to_owned(), "/keys".into());
            let kubernetes = Some(config::Kubernetes { issuer, audience, jwks, accessreview });
            let auth = config::Auth { kubernetes, ..config::Auth::default() };
            check(&Config { auth, ..Config::default() })
        };
        let error = check_with(None).unwrap_err();
        assert!(error.to_string().starts_with("rules: auth.kubernetes needs some"), "{error}");
        assert_eq!(
            check_with(Some(config::AccessReview { namespace: "n".into(), registry: "r".into() })),
            Ok(())
        );
    }

    #[tokio::test]
    async fn the_cluster_is_not_asked_for_what_rules_grant_and_its_silence_is_no_grant() {
        use Right::{Delete, Pull};
        let rules = serde_json::json!([
            {"subjects": [{"kind": "ServiceAccount"}], "repositories": ["**"], "actions": ["pull"]},
        ]);
        let access =
            config::Access { rules: serde_json::from_value(rules).unwrap(), ..config::Access::default() };
        let auth = Auth::new(&Config { access, ..Config::default() }).unwrap();
        let auth = Auth { reviews: Some(reviews::of_nobody()), ..auth };
        let claims = serde_json::json!({});
        let caller = Identity::of_service_account("system:serviceaccount:ci:builder").unwrap();
        let caller = Identity { claims, ..caller };
        let name = "team/app".parse().unwrap();
        for (right, repository, expected) in [
            (Some(Pull), Some(&name), Ok(())),
            (None, None, Ok(())),
            (Some(Delete), Some(&name), Err(Denial::Unanswered)),
            (Some(Delete), None, Err(Denial::Unanswered)),
        ] {
            assert_eq!(auth.authorize(&caller, right, repository).await, expected, "{right:?}");
        }
        assert_eq!(auth.may_everywhere(&caller, Pull).await, Ok(true));
        assert!(!auth.may_by_rule(&caller, Delete, &name));
        let user = Identity { user: Some("ann".into()), ..Identity::default() };
        assert_eq!(auth.authorize(&user, Some(Delete), Some(&name)).await, Err(Denial::Forbidden));
    }

    #[tokio::test]
    async fn what_looks_like_a_pull_secret_is_never_compared_with_the_passwords_of_users() {
        let mut users = tempfile::NamedTempFile::new().unwrap();
        let password = format!("{}guessed", pull_secrets::PREFIX);
        writeln!(users, "ann:{}", bcrypt::hash(&password, 4).unwrap()).unwrap();
        let known = tempfile::NamedTempFile::new().unwrap();
        let pullsecrets = Some(config::PullSecrets { path: known.path().into() });
        let htpasswd = Some(config::Htpasswd { realm: "r".into(), path: users.path().into() });
        for (pullsecrets, is_right) in [(pullsecrets, false), (None, true)] {
            let auth = config::Auth { htpasswd: htpasswd.clone(), pullsecrets, kubernetes: None };
            let auth = Auth::new(&Config { auth, ..Config::default() }).unwrap();
            let caller = auth.authenticate(Some(&basic("ann", &password))).await;
            assert_eq!(caller.is_ok(), is_right);
        }
    }

    #[test]
    fn the_challenge_quotes_the_realm() {
        let auth = auth(&password_file(), Anonymous::None);
        assert_eq!(auth.challenge(), Some(r#"Basic realm="Our \"realm\"""#));
        let rows = [("a\\b", r#""a\\b""#), ("a\r\nB: c", "\"a??B: c\""), ("Größe", "\"Gr??e\"")];
        for (text, expected) in rows {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn passwords_are_not_shown_by_debug() {
        assert_eq!(format!("{:?}", basic("ann", "secret")), "Basic { user: \"ann\", .. }");
    }

    #[test]
    fn a_missing_password_file_is_an_error_that_names_it() {
        let htpasswd = config::Htpasswd { realm: "r".into(), path: "/nonexistent/htpasswd".into() };
        let config = Config {
            auth: config::Auth { htpasswd: Some(htpasswd), ..config::Auth::default() },
            ..Config::default()
        };
        assert_eq!(Auth::new(&config).unwrap_err().to_string(), "read password file /nonexistent/htpasswd");
    }
}
