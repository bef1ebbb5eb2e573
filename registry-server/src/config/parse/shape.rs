//! What the schema says about one place in the tree of settings.

use serde_json::Value;

/// A part of a JSON schema without references.
#[derive(Clone, Copy)]
pub(in crate::config) struct Shape<'a>(&'a Value);

impl<'a> Shape<'a> {
    /// The shape that `schema` describes; that of an optional value is the shape of the value.
    pub(in crate::config) fn new(schema: &'a Value) -> Self {
        let alternatives = schema["anyOf"].as_array().map(Vec::as_slice).unwrap_or_default();
        Self(alternatives.iter().find(|alternative| alternative["type"] != "null").unwrap_or(schema))
    }

    /// The keys that are known here, each with its shape and its schema as written at the key.
    pub(in crate::config) fn properties(self) -> impl Iterator<Item = (&'a str, Self, &'a Value)> {
        let properties = self.0["properties"].as_object();
        properties.into_iter().flatten().map(|(name, schema)| (name.as_str(), Self::new(schema), schema))
    }

    /// The shape of what is under `key`, be it a known key or an entry of a map.
    pub(in crate::config) fn member(self, key: &str) -> Option<Self> {
        let known = self.0["properties"].get(key);
        let entry = || self.0.get("additionalProperties").filter(|schema| schema.is_object());
        known.or_else(entry).map(Self::new)
    }

    /// Whether keys are free to choose here.
    pub(in crate::config) fn is_map(self) -> bool {
        self.0.get("additionalProperties").is_some_and(|schema| *schema != Value::Bool(false))
    }

    /// The shape of a list's elements; nothing where no list is expected.
    pub(in crate::config) fn element(self) -> Option<Self> {
        self.0.get("items").map(Self::new)
    }

    /// Whether only text is expected.
    pub(in crate::config) fn is_text(self) -> bool {
        let choices = self.choices().next().is_some();
        choices || (self.has_type("string") && !self.has_type("integer"))
    }

    /// Whether a yes or no is expected.
    pub(in crate::config) fn is_boolean(self) -> bool {
        self.has_type("boolean")
    }

    /// The words that are possible, where a word is expected, each with its schema.
    pub(in crate::config) fn choices(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let choices = self.0["oneOf"].as_array().into_iter().flatten();
        choices.filter_map(|choice| Some((choice["const"].as_str()?, choice)))
    }

    /// Whether `key` must be there.
    #[cfg(test)]
    pub(in crate::config) fn requires(self, key: &str) -> bool {
        self.0["required"].as_array().is_some_and(|required| required.iter().any(|one| one == key))
    }

    /// Whether `name` is one of the possible types.
    pub(in crate::config) fn has_type(self, name: &str) -> bool {
        match &self.0["type"] {
            Value::Array(names) => names.iter().any(|one| one == name),
            one => one == name,
        }
    }
}
