//! The page `docs/configuration.md`, made from the schema, and the example beside it, checked by the reader.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::parse::keys::{Support, UNSUPPORTED};
use super::parse::shape::Shape;

const START: &str = "\
<!-- Generated from registry-server/src/config/ by `UPDATE_GENERATED=1 cargo test -p registry-server`. -->

# Configuration of the server

`registry-server serve FILE` reads the `config.yml` of CNCF distribution (`registry:2` and `registry:3`), applies the
environment over it, and tells what it did not understand. [A complete example](examples/config.yml) has every key.
`registry-server config check FILE` tells without serving, and `registry-server config schema` prints the JSON schema
for editors.

- **A wrong value** stops the server, with file, line, column, key, what was found and what is expected.
- **An unknown key** is a warning with its place and the nearest known key, as is a key of CNCF distribution that this
  server has no use for. Without some keys others could reach the content, or it would lie elsewhere: those stop the
  server. [The list](#keys-of-cncf-distribution-without-effect) is below.
- **A variable** overrides its key. Its value is YAML: `REGISTRY_HTTP_HEADERS_X-FRAME-OPTIONS='[deny]'`. Elements of
  lists are counted from 0: `REGISTRY_HTTP_TLS_CLIENTCAS_0=/ca.crt`. Variables are applied in the order of their
  names, so `REGISTRY_STORAGE=inmemory` replaces the whole section and `REGISTRY_STORAGE_DELETE_ENABLED=true` adds to
  it. `REGISTRY_CONFIGURATION_PATH` names the file itself.
- **A duration** is written as in Go: `10s`, `1h30m`, `300ms`; a bare integer counts nanoseconds.
- **An empty value** is as good as none.
";

const UNSUPPORTED_START: &str = "
## Keys of CNCF distribution without effect

Each stands for all that is under it.

| key | what the server does |
| --- | --- |
";

fn page() -> String {
    let schema = super::schema();
    let mut page = START.to_owned();
    for (name, shape, schema) in Shape::new(schema.as_value()).properties() {
        let _ = write!(page, "\n## `{name}`\n\n{}\n\n", text(schema));
        let _ = write!(page, "| key, variable | type | default | meaning |\n| --- | --- | --- | --- |\n");
        write_rows(&mut page, name, shape, schema, true);
    }
    page.push_str(UNSUPPORTED_START);
    for (key, support) in UNSUPPORTED {
        let answer = match support {
            Support::Needless => "accepts it: nothing is lost without it",
            Support::Unused => "warns",
            Support::Refused(reason) => &format!("stops: {reason}"),
        };
        let _ = writeln!(page, "| `{key}` | {answer} |");
    }
    page
}

/// A row for each key at the end of a branch, and for those of a list's elements.
fn write_rows(page: &mut String, key: &str, shape: Shape<'_>, schema: &Value, required: bool) {
    let mut members = shape.properties().peekable();
    if members.peek().is_none() {
        let variable = match key {
            "version" => String::new(),
            key => format!("<br>`REGISTRY_{}`", key.to_uppercase().replace("[]", "_0").replace('.', "_")),
        };
        let default = match &schema["default"] {
            Value::Null if required => "required".to_owned(),
            Value::Null => "not set".to_owned(),
            Value::Array(_) | Value::Object(_) => "empty".to_owned(),
            Value::String(text) => format!("`{text}`"),
            value => format!("`{value}`"),
        };
        let (kind, meaning) = (kind(shape), meaning(shape, schema));
        let _ = writeln!(page, "| `{key}`{variable} | {kind} | {default} | {meaning} |");
    }
    for (name, member, schema) in members {
        write_rows(page, &format!("{key}.{name}"), member, schema, shape.requires(name));
    }
    if let Some(element) = shape.element() {
        for (name, member, schema) in element.properties() {
            write_rows(page, &format!("{key}[].{name}"), member, schema, element.requires(name));
        }
    }
}

fn kind(shape: Shape<'_>) -> String {
    let choices: Vec<_> = shape.choices().map(|(word, _)| format!("`{word}`")).collect();
    if !choices.is_empty() {
        choices.join(", ")
    } else if let Some(element) = shape.element() {
        if element.properties().next().is_some() {
            "list".to_owned()
        } else {
            format!("list of {}", kind(element))
        }
    } else if let Some(entry) = shape.member("any").filter(|_| shape.is_map()) {
        format!("map to {}", kind(entry))
    } else if shape.is_map() {
        "map".to_owned()
    } else if shape.is_boolean() {
        "`true`, `false`".to_owned()
    } else if shape.is_text() {
        "text".to_owned()
    } else if shape.has_type("string") {
        "duration".to_owned()
    } else if shape.has_type("integer") {
        "whole number".to_owned()
    } else {
        "`{}`".to_owned()
    }
}

fn meaning(shape: Shape<'_>, schema: &Value) -> String {
    let choices = shape.choices().map(|(word, choice)| format!(" `{word}`: {}", text(choice)));
    choices.fold(text(schema), |meaning, choice| meaning + &choice)
}

fn text(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

fn documentation(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

#[test]
fn the_page_is_that_of_the_types() {
    let path = documentation("configuration.md");
    let page = page();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/configuration.md has drifted; run: UPDATE_GENERATED=1 cargo test -p registry-server"
    );
}

#[test]
fn every_setting_says_what_it_means() {
    fn check(key: &str, shape: Shape<'_>) {
        for (name, member, schema) in shape.properties() {
            assert!(
                text(schema).ends_with('.') || text(schema).ends_with(')'),
                "{key}{name}: {}",
                text(schema)
            );
            check(&format!("{key}{name}."), member);
        }
    }
    check("", Shape::new(super::schema().as_value()));
}

#[test]
fn the_example_has_every_key_and_gives_no_warning() {
    fn check(key: &str, shape: Shape<'_>, example: &Value) {
        for (name, member, _) in shape.properties() {
            // There can only be one driver.
            if name != "inmemory" {
                assert!(example.get(name).is_some(), "{key}{name} is not in the example");
                check(&format!("{key}{name}."), member, &example[name]);
            }
        }
    }
    let path = documentation("examples/config.yml");
    let loaded = super::load(&path, std::iter::empty()).unwrap();
    assert_eq!(loaded.warnings, []);
    let example: Value = serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    check("", Shape::new(super::schema().as_value()), &example);
}
