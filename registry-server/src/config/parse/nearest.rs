//! The known key that someone probably meant.

use super::shape::Shape;

/// How alike two keys must be, from 0 to 1, to be taken for a slip. One letter in four may be wrong.
const LIKENESS: f64 = 0.75;

/// The known key most like `key`, written with dots, or one of the same name in another section.
pub(super) fn nearest(key: &str, shape: Shape<'_>) -> Option<String> {
    let mut known = Vec::new();
    collect(shape, "", &mut known);
    let key = key.to_ascii_lowercase();
    let likeness = |candidate: &String| strsim::normalized_damerau_levenshtein(&key, candidate);
    let slip = known
        .iter()
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
        .filter(|best| likeness(best) >= LIKENESS);
    let name = format!(".{}", key.rsplit('.').next().unwrap_or(&key));
    slip.or_else(|| known.iter().find(|candidate| candidate.ends_with(&name))).cloned()
}

fn collect(shape: Shape<'_>, prefix: &str, known: &mut Vec<String>) {
    for (name, member, _) in shape.properties() {
        let key = format!("{prefix}{name}");
        collect(member, &format!("{key}."), known);
        known.push(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_misplaced_keys_lead_to_the_known_key() {
        let schema = crate::config::schema();
        let rows = [
            ("http.adr", Some("http.addr")),
            ("htp", Some("http")),
            ("Storage", Some("storage")),
            ("storage.filesystem.rootdir", Some("storage.filesystem.rootdirectory")),
            ("http.debug.prometeus", Some("http.debug.prometheus")),
            ("delete", Some("storage.delete")),
            ("draintimeout", Some("http.draintimeout")),
            ("port", None),
            ("something.else", None),
        ];
        for (key, expected) in rows {
            assert_eq!(nearest(key, Shape::new(schema.as_value())).as_deref(), expected, "{key}");
        }
    }
}
