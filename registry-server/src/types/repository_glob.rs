//! Globs of repository names, as rules of access and of retention have them.

use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

use super::RepositoryName;

/// A glob of repository names: `*` stops at a slash, `**` does not; `?`, `[a-z]` and `{a,b}` mean what they mean in a shell.
#[derive(Clone, Debug)]
pub struct RepositoryGlob(GlobMatcher);

/// The text is no glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseGlobError(String);

impl FromStr for RepositoryGlob {
    type Err = ParseGlobError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        let glob = glob.map_err(|error| ParseGlobError(error.kind().to_string()))?;
        Ok(Self(glob.compile_matcher()))
    }
}

impl RepositoryGlob {
    /// Text in which nothing has a meaning for a glob.
    #[must_use]
    pub fn escape(text: &str) -> String {
        globset::escape(text)
    }

    /// Whether the glob is about a repository of this name.
    #[must_use]
    pub fn matches(&self, name: &RepositoryName) -> bool {
        self.0.is_match(name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stops_at_a_slash_and_two_do_not() {
        let rows = [
            ("**", "a", true),
            ("**", "a/b/c", true),
            ("*", "a", true),
            ("*", "a/b", false),
            ("team/*", "team/app", true),
            ("team/*", "team/app/part", false),
            ("team/*", "team", false),
            ("team/**", "team/app/part", true),
            ("team/**", "team", false),
            ("team/**", "teams/app", false),
            ("**/base", "base", true),
            ("**/base", "a/b/base", true),
            ("team-?/{app,web}", "team-a/web", true),
            ("team-?/{app,web}", "team-a/db", false),
        ];
        for (glob, name, expected) in rows {
            let name = name.parse().unwrap();
            assert_eq!(glob.parse::<RepositoryGlob>().unwrap().matches(&name), expected, "{glob} {name}");
        }
    }

    #[test]
    fn what_is_no_glob_is_an_error_that_says_why() {
        let error = "team/[a".parse::<RepositoryGlob>().unwrap_err();
        assert!(error.to_string().contains("character class"), "{error}");
    }
}
