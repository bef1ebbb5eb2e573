//! Where each setting was written, for messages.

use std::path::Path;

use super::locate::{Part, locate};
use crate::config::error::{Error, Origin};

/// The file, and the variables that changed what it says.
pub(super) struct Sources<'a> {
    path: &'a Path,
    text: &'a str,
    variables: Vec<(Vec<String>, String)>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, variables: Vec::new() }
    }

    /// Notes that the variable `name` set what is at `path`.
    pub(super) fn add_variable(&mut self, path: Vec<String>, name: &str) {
        self.variables.push((path, name.to_owned()));
    }

    /// The place of the key at `path`.
    pub(super) fn key(&self, path: &[String]) -> Origin {
        self.origin(path, Part::Key)
    }

    /// An error about the value at `path`, which is missing or wrong.
    pub(super) fn wrong(&self, path: &[String], problem: String) -> Error {
        Error::Value { origin: self.origin(path, Part::Value), key: path.join("."), problem }
    }

    /// An error about text that is not YAML.
    pub(super) fn syntax(&self, source: serde_yaml::Error) -> Error {
        let place = source.location().map(|location| (location.line(), location.column()));
        Error::Syntax { origin: self.file(place), source }
    }

    fn origin(&self, path: &[String], part: Part) -> Origin {
        if let Some(name) = self.variable_above(path) {
            return Origin::Variable(name.to_owned());
        }
        if let Some(place) = locate(self.text, path, part) {
            return self.file(Some(place));
        }
        if let Some(name) = self.variable_below(path) {
            return Origin::Variable(name.to_owned());
        }
        let parents = (1..path.len()).rev().map(|length| &path[..length]);
        self.file(parents.into_iter().find_map(|parent| locate(self.text, parent, Part::Key)))
    }

    /// The variable that set `path` or something that holds it: of several, the one applied last.
    fn variable_above(&self, path: &[String]) -> Option<&str> {
        self.variables.iter().rev().find(|(set, _)| path.starts_with(set)).map(|(_, name)| name.as_str())
    }

    fn variable_below(&self, path: &[String]) -> Option<&str> {
        self.variables.iter().find(|(set, _)| set.starts_with(path)).map(|(_, name)| name.as_str())
    }

    fn file(&self, place: Option<(usize, usize)>) -> Origin {
        Origin::File { path: self.path.to_owned(), place }
    }
}
