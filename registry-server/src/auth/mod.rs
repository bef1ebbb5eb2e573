//! Who may do what: credentials in, an identity or a denial out.
//!
//! Nothing here knows HTTP but the one line of [`Auth::challenge`], and nothing is decided elsewhere.

use std::fmt;

use crate::config::{AccessRule, Anonymous, Config, Right, Subject, SubjectKind};
use crate::types::RepositoryName;

mod htpasswd;
mod rules;
mod verified;

pub use htpasswd::is_valid_user;
use htpasswd::{Htpasswd, Overloaded};
pub use rules::Error as RuleError;
use rules::Rules;

/// A user's name and password, as a client sent them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// Credentials of `user`.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned() }
    }

    /// Whether these are none: podman and skopeo answer a challenge with an empty name and password when they have
    /// no others.
    fn is_blank(&self) -> bool {
        self.user.is_empty() && self.password.is_empty()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user whose credentials were right; nothing for one who sent none.
    pub user: Option<String>,
    /// The groups that the user is in.
    pub groups: Vec<String>,
}

impl Identity {
    /// Namespace and name of the `ServiceAccount` that the user is. No password file can have such a user: a colon ends a name.
    fn service_account(&self) -> Option<(&str, &str)> {
        self.user.as_deref()?.strip_prefix("system:serviceaccount:")?.split_once(':')
    }
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
}

/// Why nobody can be let in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The users cannot be read.
    #[error(transparent)]
    Htpasswd(#[from] htpasswd::Error),
    /// A rule cannot be meant.
    #[error("access.{0}")]
    Rules(#[from] RuleError),
}

/// Decides over requests.
#[derive(Debug)]
pub struct Auth {
    /// Nothing when nobody is asked who they are.
    users: Option<Users>,
    rules: Rules,
}

#[derive(Debug)]
struct Users {
    htpasswd: Htpasswd,
    challenge: String,
}

impl Auth {
    /// Reads the users of the section `auth` and the rules of the section `access`.
    ///
    /// # Errors
    /// When a rule cannot be meant, or the password file cannot be read. (CNCF distribution makes one with a password of its
    /// own instead.)
    pub fn new(config: &Config) -> Result<Self, Error> {
        let rules = rules(config)?;
        let Some(settings) = &config.auth.htpasswd else { return Ok(Self { users: None, rules }) };
        let htpasswd = Htpasswd::open(&settings.path)?;
        let challenge = format!("Basic realm={}", quoted(&settings.realm));
        Ok(Self { users: Some(Users { htpasswd, challenge }), rules })
    }

    /// Who asks. A registry that knows no users does not look at credentials either.
    ///
    /// # Errors
    /// [`Denial::Unauthenticated`] when the credentials are wrong, also for what needs none, so that a mistyped password
    /// shows; [`Denial::Overloaded`].
    pub async fn authenticate(&self, credentials: Option<&Credentials>) -> Result<Identity, Denial> {
        let credentials = credentials.filter(|credentials| !credentials.is_blank());
        let (Some(users), Some(Credentials { user, password })) = (&self.users, credentials) else {
            return Ok(Identity::default());
        };
        match users.htpasswd.verify(user, password).await {
            Ok(true) => Ok(Identity { user: Some(user.clone()), groups: Vec::new() }),
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
    pub fn authorize(
        &self,
        caller: &Identity,
        right: Option<Right>,
        repository: Option<&RepositoryName>,
    ) -> Result<(), Denial> {
        let is_stranger = caller.user.is_none() && self.users.is_some();
        match right {
            None if !is_stranger => Ok(()),
            Some(right) if self.rules.grant(caller, right, repository) => Ok(()),
            _ if is_stranger => Err(Denial::Unauthenticated),
            _ => Err(Denial::Forbidden),
        }
    }

    /// Whether the caller has the right in the repository.
    #[must_use]
    pub fn may(&self, caller: &Identity, right: Right, repository: &RepositoryName) -> bool {
        self.rules.grant(caller, right, Some(repository))
    }

    /// Whether the caller has the right in every repository that there may be.
    #[must_use]
    pub fn may_everywhere(&self, caller: &Identity, right: Right) -> bool {
        self.rules.grant_everywhere(caller, right)
    }

    /// The value of `WWW-Authenticate` that asks for credentials; nothing if none are ever needed.
    #[must_use]
    pub fn challenge(&self) -> Option<&str> {
        self.users.as_ref().map(|users| users.challenge.as_str())
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
    if all.is_empty() {
        let is_open = config.auth.htpasswd.is_none();
        let everyone = if is_open { SubjectKind::Anonymous } else { SubjectKind::Authenticated };
        all.push(everywhere(everyone, &[Pull, Push, Delete, List]));
    }
    if config.access.anonymous == Anonymous::Pull {
        all.push(everywhere(SubjectKind::Anonymous, &[Pull, List]));
    }
    Rules::compile(&all)
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
    use crate::config;

    /// Password `secret`, at the lowest cost.
    fn password_file() -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "ann:{}", bcrypt::hash("secret", 4).unwrap()).unwrap();
        file
    }

    fn auth(file: &tempfile::NamedTempFile, anonymous: Anonymous) -> Auth {
        let htpasswd = config::Htpasswd { realm: "Our \"realm\"".into(), path: file.path().into() };
        Auth::new(&Config {
            auth: config::Auth { htpasswd: Some(htpasswd) },
            access: config::Access { anonymous, rules: Vec::new() },
            ..Config::default()
        })
        .unwrap()
    }

    #[tokio::test]
    async fn rights_follow_from_credentials_action_and_anonymous_access() {
        use Right::{Delete, List, Pull, Push};
        let file = password_file();
        let right = Some(Credentials::new("ann", "secret"));
        let wrong = Some(Credentials::new("ann", "wrong"));
        let stranger = Some(Credentials::new("bob", "secret"));
        let blank = Some(Credentials::new("", ""));
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
                let answer = caller.as_ref().map_err(|denial| *denial);
                let answer = answer.and_then(|caller| auth.authorize(caller, right, Some(&name)));
                let expected = if allowed { Ok(()) } else { Err(Denial::Unauthenticated) };
                assert_eq!(answer, expected, "{anonymous:?} {credentials:?} {right:?}");
            }
        }
    }

    #[tokio::test]
    async fn without_users_everyone_may_do_everything() {
        let auth = Auth::new(&Config::default()).unwrap();
        let anyone = Credentials::new("any", "one");
        for credentials in [None, Some(&anyone)] {
            let caller = auth.authenticate(credentials).await.unwrap();
            assert_eq!(caller, Identity::default());
            assert_eq!(auth.authorize(&caller, Some(Right::Delete), None), Ok(()));
        }
        assert_eq!(auth.challenge(), None);
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
        assert_eq!(format!("{:?}", Credentials::new("ann", "secret")), "Credentials { user: \"ann\", .. }");
    }

    #[test]
    fn a_missing_password_file_is_an_error_that_names_it() {
        let htpasswd = config::Htpasswd { realm: "r".into(), path: "/nonexistent/htpasswd".into() };
        let config = Config { auth: config::Auth { htpasswd: Some(htpasswd) }, ..Config::default() };
        assert_eq!(Auth::new(&config).unwrap_err().to_string(), "read password file /nonexistent/htpasswd");
    }
}
