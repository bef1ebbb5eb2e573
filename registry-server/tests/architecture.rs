//! The rules of the house, read from the source text: which module may use which, and where what is spelled.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the top down: a module uses only modules of layers below its own, and itself.
const LAYERS: [&[&str]; 8] = [
    &["cli", "main"],
    &["http", "background"],
    &["app"],
    &["maintenance"],
    &["registry"],
    &["storage", "auth", "metrics"],
    &["telemetry"],
    &["types", "config"],
];

/// The most lines that a file may have besides its tests.
const MAX_FILE_LINES: usize = 500;

struct SourceFile {
    /// Path below `src`.
    path: PathBuf,
    /// The text without the tests at its end.
    production: String,
}

impl SourceFile {
    /// The module at the crate's root that the file belongs to.
    fn module(&self) -> String {
        let first = self.path.iter().next().unwrap().to_str().unwrap();
        first.trim_end_matches(".rs").to_owned()
    }

    /// The crate's root modules that the file names.
    fn uses(&self) -> BTreeSet<String> {
        let code = self.production.lines().filter(|line| !line.trim_start().starts_with("//"));
        let names = code.flat_map(|line| line.split("crate::").skip(1));
        names.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
    }
}

fn source_files() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if !matches!(
                path.file_name().unwrap().to_str(),
                Some("tests.rs" | "contract.rs" | "lib.rs")
            ) {
                let text = fs::read_to_string(&path).unwrap();
                let production = text.split("\n#[cfg(test)]\nmod tests").next().unwrap().to_owned();
                files.push(SourceFile { path: path.strip_prefix(&root).unwrap().to_owned(), production });
            }
        }
    }
    assert!(files.len() > 20, "the sources were found");
    files
}

fn layer(module: &str) -> usize {
    let found = LAYERS.iter().position(|modules| modules.contains(&module));
    found.unwrap_or_else(|| panic!("module {module} has no layer: give it one in LAYERS"))
}

#[test]
fn a_module_uses_only_modules_below_it() {
    for file in source_files() {
        let module = file.module();
        for used in file.uses().iter().filter(|used| **used != module) {
            assert!(
                layer(used) > layer(&module),
                "{} uses {used}, which is not below {module}",
                file.path.display()
            );
        }
    }
}

#[test]
fn the_server_has_one_trait_of_its_own() {
    let is_trait = |line: &&str| line.trim_start().trim_start_matches("pub ").starts_with("trait ");
    let traits: Vec<String> = source_files()
        .iter()
        .flat_map(|file| file.production.lines().filter(is_trait).map(ToOwned::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(traits, ["pub trait Storage: fmt::Debug + Send + Sync {"]);
}

#[test]
fn what_has_one_place_is_spelled_only_there() {
    // What is spelled, and the only paths below `src` that may begin so.
    let rules: [(&str, &[&str]); 5] = [
        ("\"_layers", &["storage/layout.rs"]),
        ("\"_manifests", &["storage/layout.rs"]),
        ("docker/registry/v2", &["storage/layout.rs"]),
        ("StatusCode::", &["http/"]),
        ("HeaderName::", &["http/"]),
    ];
    for file in source_files() {
        let path = file.path.to_str().unwrap();
        for (text, places) in rules {
            let code = file.production.lines().filter(|line| !line.trim_start().starts_with("//"));
            let spelled = code.into_iter().any(|line| line.contains(text));
            assert!(!spelled || places.iter().any(|place| path.starts_with(place)), "{path} spells {text}");
        }
    }
}

#[test]
fn no_file_is_too_long_to_be_read_at_once() {
    for file in source_files() {
        let lines = file.production.lines().count();
        assert!(lines <= MAX_FILE_LINES, "{} has {lines} lines", file.path.display());
    }
}
