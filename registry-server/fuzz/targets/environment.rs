//! Variables over a file of settings. Each line is a name without its prefix, an equals sign and a value.
#![no_main]

use std::io::Write as _;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use registry_server::config;
use tempfile::NamedTempFile;

static FILE: LazyLock<NamedTempFile> = LazyLock::new(|| {
    let mut file = NamedTempFile::new().unwrap();
    let text =
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /x\nhttp:\n  headers:\n    X-A: [b, c]\n";
    file.write_all(text.as_bytes()).unwrap();
    file
});

fuzz_target!(|text: &str| {
    let variables = text.lines().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (format!("REGISTRY_{name}"), value.to_owned()));
    let _ = config::load(FILE.path(), variables);
});
