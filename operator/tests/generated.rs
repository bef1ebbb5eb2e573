//! Files that are made from the types: `UPDATE_GENERATED=1 cargo test` rewrites them, a plain test run compares.

use std::fs;
use std::path::{Path, PathBuf};

fn check(file: &str, expected: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{file} is out of date; run: UPDATE_GENERATED=1 cargo test -p operator");
}

#[test]
fn the_crds_are_those_of_the_types() {
    for crd in operator::api::crds() {
        let names = &crd.spec.names;
        let yaml = serde_yaml::to_string(&crd).unwrap();
        check(&format!("crds/{}_{}.yaml", crd.spec.group, names.plural), &yaml);
    }
}
