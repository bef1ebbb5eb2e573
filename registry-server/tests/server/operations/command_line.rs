//! The commands beside `serve`, and what is said about a configuration that is wrong.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::harness::server::BINARY;

#[test]
fn the_version_is_told() {
    let output = run(&["--version"], &[]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout).trim(), concat!("registry-server ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_right_configuration_is_checked_without_a_word_of_warning() {
    let output = check(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /tmp/registry\nhttp:\n  addr: :5000\n",
        &[],
    );
    assert!(output.status.success(), "{output:?}");
    assert!(!text(&output.stderr).to_lowercase().contains("warn"), "{output:?}");
}

#[test]
fn a_wrong_value_is_refused_with_file_line_and_key() {
    let rows = [
        ("version: 0.1\nstorage:\n  inmemory: {}\nhttp:\n  draintimeout: soon\n", "http.draintimeout", 5),
        (
            "version: 0.1\nstorage:\n  inmemory: {}\n  delete:\n    enabled: perhaps\n",
            "storage.delete.enabled",
            5,
        ),
        ("version: 0.1\nlog:\n  level: loud\nstorage:\n  inmemory: {}\n", "log.level", 3),
    ];
    for (configuration, key, line) in rows {
        let output = check(configuration, &[]);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(!output.status.success(), "{configuration}");
        assert!(said.contains("config.yml") && said.contains(key), "{key}: {said}");
        assert!(said.contains(&format!("{line}")), "line {line}: {said}");
    }
}

#[test]
fn an_unknown_key_is_warned_about_with_the_nearest_name() {
    let output = check("version: 0.1\nstorage:\n  inmemory: {}\nhttp:\n  draintimeot: 5s\n", &[]);
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("draintimeot") && said.contains("draintimeout"), "{said}");
}

#[test]
fn the_environment_overrides_the_file() {
    let configuration = "version: 0.1\nstorage:\n  inmemory: {}\n";
    assert!(check(configuration, &[("REGISTRY_HTTP_DRAINTIMEOUT", "5s")]).status.success());
    let output = check(configuration, &[("REGISTRY_HTTP_DRAINTIMEOUT", "soon")]);
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(!output.status.success() && said.contains("REGISTRY_HTTP_DRAINTIMEOUT"), "{said}");
}

#[test]
fn a_password_line_is_made_from_what_is_typed() {
    let mut process = Command::new(BINARY)
        .args(["htpasswd", "alice"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(b"wonderland\n").unwrap();
    let output = process.wait_with_output().unwrap();
    let line = text(&output.stdout);
    let hash = line.trim().strip_prefix("alice:").unwrap_or_else(|| panic!("a line for alice: {line}"));
    assert!(bcrypt::verify("wonderland", hash).unwrap(), "{line}");
}

fn check(configuration: &str, environment: &[(&str, &str)]) -> Output {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("config.yml");
    fs::write(&file, configuration).unwrap();
    run(&["config", "check", file.to_str().unwrap()], environment)
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(BINARY).args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
