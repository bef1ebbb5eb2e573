//! The place of a setting in the text of the file.
//!
//! The YAML reader tells places only in errors. So the text is read once more by a reader that fails on purpose at
//! the setting that is looked for.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The part of a setting that is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

/// Line and column, both from 1, of the setting at `path`; nothing if `text` has none there.
pub(super) fn locate(text: &str, path: &[String], part: Part) -> Option<(usize, usize)> {
    let error = Walk { path, part }.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    error.location().map(|location| (location.line(), location.column()))
}

/// A reader that follows `path` and fails at its end.
#[derive(Clone, Copy)]
struct Walk<'a> {
    path: &'a [String],
    part: Part,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Every kind of value that no method here accepts is an error at its place, which is all that is wanted.
impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the end of the path")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.path.split_first() else {
            return Err(A::Error::custom("found"));
        };
        let fails = rest.is_empty() && self.part == Part::Key;
        while let Some(is_wanted) = map.next_key_seed(Key { wanted, fails })? {
            if is_wanted {
                map.next_value_seed(Walk { path: rest, part: self.part })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.path.split_first() else {
            return Err(A::Error::custom("found"));
        };
        let index = wanted.parse().unwrap_or(usize::MAX);
        for _ in 0..index {
            if sequence.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        sequence.next_element_seed(Walk { path: rest, part: self.part }).map(|_| ())
    }
}

/// A reader of one key that tells whether it is the wanted one, or fails at it.
struct Key<'a> {
    wanted: &'a str,
    fails: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        let is_wanted = key == self.wanted;
        if is_wanted && self.fails { Err(E::custom("found")) } else { Ok(is_wanted) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
version: 0.1
# A comment moves lines.
storage:
  filesystem: {rootdirectory: /data}
http:
  tls:
    clientcas:
      - /a.pem
      - /b.pem
  headers:
    X-A: [one, two]
5: five
";

    #[test]
    fn a_setting_is_found_where_it_stands() {
        let rows = [
            ("version", Part::Key, Some((1, 1))),
            ("version", Part::Value, Some((1, 10))),
            ("storage.filesystem", Part::Key, Some((4, 3))),
            ("storage.filesystem.rootdirectory", Part::Key, Some((4, 16))),
            ("storage.filesystem.rootdirectory", Part::Value, Some((4, 31))),
            ("http.tls.clientcas.1", Part::Value, Some((9, 9))),
            ("http.headers.X-A.0", Part::Value, Some((11, 11))),
            ("http.headers", Part::Value, Some((11, 5))),
            ("5", Part::Value, Some((12, 4))),
            ("http.tls.clientcas.2", Part::Value, None),
            ("http.tls.key", Part::Key, None),
            ("nothing", Part::Value, None),
        ];
        for (path, part, expected) in rows {
            let segments: Vec<String> = path.split('.').map(str::to_owned).collect();
            assert_eq!(locate(TEXT, &segments, part), expected, "{path}");
        }
    }
}
