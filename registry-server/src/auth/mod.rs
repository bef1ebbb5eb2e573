//! Who may do what: credentials in, an identity or a denial out.
//!
//! Nothing here knows HTTP but the one line of [`Auth::challenge`], and nothing is decided elsewhere.

use std::fmt;

use crate::config::{Anonymous, Config};

mod htpasswd;
mod verified;

pub use htpasswd::{Error, is_valid_user};
use htpasswd::{Htpasswd, Overloaded};

/// What a request is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read content.
    Pull,
    /// Write content.
    Push,
    /// Delete content.
    Delete,
    /// List repositories.
    List,
    /// Ask whether the credentials hold.
    Ping,
}

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
    /// The user whose password was right; nothing for one who sent none.
    pub user: Option<String>,
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

/// Decides over requests.
#[derive(Debug)]
pub struct Auth {
    /// Nothing when the registry is open to everyone.
    users: Option<Users>,
}

#[derive(Debug)]
struct Users {
    htpasswd: Htpasswd,
    anonymous: Anonymous,
    challenge: String,
}

impl Auth {
    /// Reads the users of the section `auth`.
    ///
    /// # Errors
    /// When the password file cannot be read. (CNCF distribution makes one with a password of its own instead.)
    pub fn new(config: &Config) -> Result<Self, Error> {
        let Some(settings) = &config.auth.htpasswd else { return Ok(Self { users: None }) };
        let htpasswd = Htpasswd::open(&settings.path)?;
        let challenge = format!("Basic realm={}", quoted(&settings.realm));
        Ok(Self { users: Some(Users { htpasswd, anonymous: config.access.anonymous, challenge }) })
    }

    /// Who asks, if they may do `action`, in `repository` if it is about one.
    ///
    /// Wrong credentials are refused even for what needs none, so that a mistyped password shows. To [`Action::Ping`]
    /// everyone must authenticate: clients send credentials only after it was refused without.
    ///
    /// # Errors
    /// [`Denial`] says whether other credentials could help, or the same later.
    pub async fn authorize(
        &self,
        credentials: Option<&Credentials>,
        action: Action,
        _repository: Option<&str>,
    ) -> Result<Identity, Denial> {
        let Some(users) = &self.users else { return Ok(Identity::default()) };
        match credentials.filter(|credentials| !credentials.is_blank()) {
            Some(credentials) => users.authenticate(credentials).await,
            None if users.are_dispensable(action) => Ok(Identity::default()),
            None => Err(Denial::Unauthenticated),
        }
    }

    /// The value of `WWW-Authenticate` that asks for credentials; nothing if none are ever needed.
    #[must_use]
    pub fn challenge(&self) -> Option<&str> {
        self.users.as_ref().map(|users| users.challenge.as_str())
    }
}

impl Users {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity, Denial> {
        let Credentials { user, password } = credentials;
        match self.htpasswd.verify(user, password).await {
            Ok(true) => Ok(Identity { user: Some(user.clone()) }),
            Ok(false) => Err(Denial::Unauthenticated),
            Err(Overloaded) => Err(Denial::Overloaded),
        }
    }

    fn are_dispensable(&self, action: Action) -> bool {
        self.anonymous == Anonymous::Pull && matches!(action, Action::Pull | Action::List)
    }
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
            access: config::Access { anonymous },
            ..Config::default()
        })
        .unwrap()
    }

    #[tokio::test]
    async fn rights_follow_from_credentials_action_and_anonymous_access() {
        use Action::{Delete, List, Ping, Pull, Push};
        let file = password_file();
        let right = Some(Credentials::new("ann", "secret"));
        let wrong = Some(Credentials::new("ann", "wrong"));
        let stranger = Some(Credentials::new("bob", "secret"));
        let blank = Some(Credentials::new("", ""));
        let all = [Pull, Push, Delete, List, Ping];
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
            for (action, allowed) in all.into_iter().zip(allowed) {
                let answer = auth.authorize(credentials.as_ref(), action, Some("team/app")).await;
                let user = credentials.as_ref().filter(|one| !one.is_blank()).map(|one| one.user.clone());
                let expected = if allowed { Ok(Identity { user }) } else { Err(Denial::Unauthenticated) };
                assert_eq!(answer, expected, "{anonymous:?} {credentials:?} {action:?}");
            }
        }
    }

    #[tokio::test]
    async fn without_users_everyone_may_do_everything() {
        let auth = Auth::new(&Config::default()).unwrap();
        let anyone = Credentials::new("any", "one");
        for credentials in [None, Some(&anyone)] {
            let answer = auth.authorize(credentials, Action::Delete, None).await;
            assert_eq!(answer, Ok(Identity::default()));
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
