//! Who may do what.

use crate::config::Config;

/// A right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reading content.
    Pull,
    /// Writing content.
    Push,
    /// Deleting content.
    Delete,
    /// Listing repositories.
    List,
    /// Asking whether the credentials hold.
    Ping,
}

/// A user's name and password.
pub struct Credentials {}

impl Credentials {
    /// Credentials as a client sent them.
    #[must_use]
    pub fn new(_user: &str, _password: &str) -> Self {
        Self {}
    }
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The user, when credentials were sent.
    pub user: Option<String>,
}

/// Why a request may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No credentials, or wrong ones.
    Unauthenticated,
    /// The credentials do not give the right.
    Forbidden,
}

/// Authentication cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("authentication is not built in yet")]
pub struct Error;

/// Decides over requests.
#[derive(Debug)]
pub struct Auth;

impl Auth {
    /// Sets up authentication.
    pub fn new(config: &Config) -> Result<Self, Error> {
        if config.auth.htpasswd.is_some() { Err(Error) } else { Ok(Self) }
    }

    /// Who asks, if they may.
    pub async fn authorize(
        &self,
        _credentials: Option<&Credentials>,
        _action: Action,
        _repository: Option<&str>,
    ) -> Result<Identity, Denial> {
        Ok(Identity::default())
    }

    /// The value of `WWW-Authenticate`.
    #[must_use]
    pub fn challenge(&self) -> Option<String> {
        None
    }
}
