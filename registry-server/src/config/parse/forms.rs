//! The several ways in which distribution lets one thing be written, brought to one.

use serde_json::{Map, Value};

use super::shape::Shape;

/// Writes out short forms: `storage: inmemory`, `auth: none`, a driver without parameters, `loglevel`.
pub(super) fn write_out(settings: &mut Value) {
    if settings.is_null() {
        *settings = Value::Object(Map::new());
    }
    let Value::Object(sections) = settings else { return };
    for section in ["storage", "auth"] {
        if let Some(value) = sections.get_mut(section) {
            write_out_choice(value);
        }
    }
    if let Some(level) = sections.remove("loglevel") {
        let log = sections.entry("log").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(log) = log {
            log.entry("level").or_insert(level);
        }
    }
}

/// Turns `name` into `{name: {}}`, and `{name: null}` too.
fn write_out_choice(value: &mut Value) {
    match value {
        Value::String(name) if name.is_empty() => *value = Value::Null,
        Value::String(name) => {
            let name = std::mem::take(name);
            *value = Value::Object(Map::from_iter([(name, Value::Object(Map::new()))]));
        }
        Value::Object(members) => {
            members.values_mut().filter(|member| member.is_null()).for_each(|member| {
                *member = Value::Object(Map::new());
            });
        }
        _ => {}
    }
}

/// Drops what counts as not set (null, empty text, an empty `tls`), and reads scalars as Go's YAML reader does:
/// any scalar where text is expected, `yes` and `on` where a truth value is.
pub(super) fn tidy(value: &mut Value, shape: Option<Shape<'_>>) {
    match value {
        Value::Object(members) => tidy_members(members, shape),
        Value::Array(elements) => {
            let element = shape.and_then(Shape::element);
            for value in elements {
                tidy(value, element);
            }
        }
        Value::Bool(_) | Value::Number(_) if shape.is_some_and(Shape::is_text) => {
            *value = Value::String(value.to_string());
        }
        Value::String(text) if shape.is_some_and(Shape::is_boolean) => {
            if let Some(truth) = truth(text) {
                *value = Value::Bool(truth);
            }
        }
        Value::String(text) => {
            let choices = shape.into_iter().flat_map(Shape::choices).map(|(choice, _)| choice);
            if let Some(choice) = choices.into_iter().find(|choice| choice.eq_ignore_ascii_case(text)) {
                choice.clone_into(text);
            }
        }
        _ => {}
    }
}

fn tidy_members(members: &mut Map<String, Value>, shape: Option<Shape<'_>>) {
    for (key, value) in members.iter_mut() {
        tidy(value, shape.and_then(|shape| shape.member(key)));
    }
    members.retain(|key, value| {
        let is_text = || shape.and_then(|shape| shape.member(key)).is_some_and(Shape::is_text);
        match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty() || !is_text(),
            Value::Object(tls) if key == "tls" => !tls.is_empty(),
            _ => true,
        }
    });
}

/// The truth values of YAML 1.1 beyond `true` and `false`.
fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "on" => Some(true),
        "n" | "no" | "off" => Some(false),
        _ => None,
    }
}
