//! Merging a user's fragment into an object that the operator made: the one rule behind every escape hatch.

use serde_json::{Map, Value};

/// Merges `fragment` into `base`, field by field.
///
/// Objects are merged; null removes a field; a list whose elements all carry a key (`mountPath`, else `name`) is merged
/// by that key, so that one container or variable can be changed without repeating the rest; any other value replaces
/// what was there.
pub fn merge(base: &mut Map<String, Value>, fragment: &Map<String, Value>) {
    for (field, value) in fragment {
        if value.is_null() {
            base.remove(field);
        } else {
            merge_value(base.entry(field.as_str()).or_insert(Value::Null), value);
        }
    }
}

fn merge_value(base: &mut Value, fragment: &Value) {
    match (base, fragment) {
        (Value::Object(base), Value::Object(fragment)) => merge(base, fragment),
        (base, Value::Object(fragment)) => {
            let mut fresh = Map::new();
            merge(&mut fresh, fragment);
            *base = Value::Object(fresh);
        }
        (Value::Array(base), Value::Array(fragment)) if is_keyed(base) && is_keyed(fragment) => {
            for item in fragment {
                match base.iter_mut().find(|existing| key(existing) == key(item)) {
                    Some(existing) => merge_value(existing, item),
                    None => base.push(item.clone()),
                }
            }
        }
        (base, fragment) => *base = fragment.clone(),
    }
}

fn is_keyed(list: &[Value]) -> bool {
    !list.is_empty() && list.iter().all(|item| key(item).is_some())
}

fn key(item: &Value) -> Option<&str> {
    item.get("mountPath").or_else(|| item.get("name")).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::merge;
    use serde_json::{Value, json};

    fn check(base: &Value, fragment: &Value, expected: &Value) {
        let mut merged = base.as_object().unwrap().clone();
        merge(&mut merged, fragment.as_object().unwrap());
        assert_eq!(&Value::Object(merged), expected, "{base} with {fragment}");
    }

    #[test]
    fn a_fragment_changes_only_what_it_names() {
        for (base, fragment, expected) in [
            (json!({"a": 1}), json!({}), json!({"a": 1})),
            (json!({"a": 1}), json!({"b": 2}), json!({"a": 1, "b": 2})),
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": 3}}), json!({"a": {"b": 3, "c": 2}})),
            (json!({"a": 1}), json!({"a": {"b": 1}}), json!({"a": {"b": 1}})),
            (json!({"a": {"b": 1}}), json!({"a": 1}), json!({"a": 1})),
        ] {
            check(&base, &fragment, &expected);
        }
    }

    #[test]
    fn null_removes_a_field_and_is_never_written() {
        check(&json!({"a": 1, "b": 2}), &json!({"a": null}), &json!({"b": 2}));
        check(&json!({}), &json!({"a": {"b": null}}), &json!({"a": {}}));
    }

    #[test]
    fn named_lists_merge_by_name_and_others_are_replaced() {
        check(
            &json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}),
            &json!({"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}),
            &json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}),
        );
        check(&json!({"args": ["a", "b"]}), &json!({"args": ["c"]}), &json!({"args": ["c"]}));
        check(&json!({"env": [{"name": "A"}]}), &json!({"env": []}), &json!({"env": []}));
    }

    #[test]
    fn mounts_of_one_volume_are_told_apart_by_path() {
        check(
            &json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]}),
            &json!({"volumeMounts": [{"name": "v", "mountPath": "/b", "readOnly": true}]}),
            &json!({"volumeMounts": [{"name": "v", "mountPath": "/a"},
                                     {"name": "v", "mountPath": "/b", "readOnly": true}]}),
        );
    }
}
