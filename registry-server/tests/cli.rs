//! The program as its users meet it: arguments, exit codes, what goes to which stream, signals.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry-server"));
    command.args(arguments).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(command: &mut Command, input: &str) -> Output {
    let mut child = command.spawn().unwrap();
    // A program that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Exit code, standard output and standard error.
fn told(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| str::from_utf8(bytes).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_version_is_told() {
    let version = concat!("registry-server ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(told(&output(&mut program(&["--version"]), "")), (Some(0), version, ""));
}

#[test]
fn htpasswd_prints_a_line_that_the_password_fits() {
    let output = output(&mut program(&["htpasswd", "-nB", "-C", "4", "ann"]), "pass word \n");
    let (code, line, _) = told(&output);
    assert_eq!(code, Some(0));
    let hash = line.trim_end().strip_prefix("ann:").unwrap();
    assert!(hash.starts_with("$2y$04$"), "{hash}");
    assert!(bcrypt::verify("pass word ", hash).unwrap());
}

#[test]
fn htpasswd_refuses_what_would_not_work() {
    let long = "x".repeat(73);
    let rows = [
        ("a:b", "secret", "user \"a:b\": a name has no colon, no line break, no blank end and no leading #"),
        ("ann", "\n", "the password is empty"),
        ("ann", &long, "the password is longer than the 72 bytes that bcrypt looks at"),
    ];
    for (user, password, message) in rows {
        let output = output(&mut program(&["htpasswd", user]), password);
        assert_eq!(told(&output), (Some(2), "", format!("registry-server: {message}\n").as_str()));
    }
}

#[test]
fn config_check_tells_what_is_wrong_and_where() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yml");
    let path = file.to_str().unwrap();
    let start = "version: 0.1\nstorage: inmemory\n";
    let rows = [
        ("", "", "", Some(0), format!("{path}: the settings can be used\n"), String::new()),
        (
            "redis: {addr: a}\n",
            "REGISTRY_HTTP_ADR",
            ":80",
            Some(0),
            format!(
                "environment variable REGISTRY_HTTP_ADR: http.adr: unknown key, did you mean http.addr?\n\
                 {path}:3:1: redis: not used by this server\n{path}: the settings can be used\n"
            ),
            String::new(),
        ),
        (
            "http:\n  relativeurls: perhaps\n",
            "",
            "",
            Some(2),
            String::new(),
            format!(
                "registry-server: {path}:4:17: http.relativeurls: found string \"perhaps\", expected true or false\n"
            ),
        ),
    ];
    for (text, name, value, code, stdout, stderr) in rows {
        fs::write(&file, format!("{start}{text}")).unwrap();
        let mut command = program(&["config", "check", path]);
        if !name.is_empty() {
            command.env(name, value);
        }
        assert_eq!(told(&output(&mut command, "")), (code, stdout.as_str(), stderr.as_str()));
    }
}

#[test]
fn a_missing_file_is_an_error_with_its_cause() {
    let expected = "registry-server: read /nonexistent.yml: No such file or directory (os error 2)\n";
    for arguments in
        [&["serve", "/nonexistent.yml"][..], &["config", "check", "/nonexistent.yml"], &["serve"]]
    {
        let mut command = program(arguments);
        command.env("REGISTRY_CONFIGURATION_PATH", "/nonexistent.yml");
        assert_eq!(told(&output(&mut command, "")), (Some(2), "", expected));
    }
}

#[test]
fn config_schema_is_json() {
    let output = output(&mut program(&["config", "schema"]), "");
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["properties"]["http"]["properties"]["addr"]["default"], ":5000");
}

/// A running server, killed when a test fails.
struct Server {
    child: Child,
    address: String,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(file: &Path) -> Server {
    let mut command = program(&["serve", file.to_str().unwrap()]);
    command.env("REGISTRY_HTTP_ADDR", "127.0.0.1:0").env("REGISTRY_LOG_FORMATTER", "json");
    let mut child = command.spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut server = Server { child, address: String::new(), stderr };
    while server.address.is_empty() {
        let mut line = String::new();
        assert_ne!(server.stderr.read_line(&mut line).unwrap(), 0, "the server ended before it listened");
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        if event["message"] == "listening" {
            event["addr"].as_str().unwrap().clone_into(&mut server.address);
        }
    }
    server
}

fn get_base(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_signal_ends_the_server_in_peace() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yml");
    fs::write(&file, "version: 0.1\nstorage: inmemory\nredis: {addr: a}\n").unwrap();
    for signal in ["TERM", "INT"] {
        let mut server = serve(&file);
        assert!(get_base(&server.address).starts_with("HTTP/1.1 200"));

        let pid = server.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        assert_eq!(server.child.wait().unwrap().code(), Some(0));

        let mut access = String::new();
        server.child.stdout.take().unwrap().read_to_string(&mut access).unwrap();
        let request: serde_json::Value = serde_json::from_str(&access).unwrap();
        assert_eq!((&request["path"], &request["status"]), (&"/v2/".into(), &200.into()));
        let mut own = String::new();
        server.stderr.read_to_string(&mut own).unwrap();
        assert!(own.contains(&format!("SIG{signal}")), "{own}");
    }
}

#[test]
fn what_fails_at_work_is_told_with_its_cause() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yml");
    let address = taken.local_addr().unwrap();
    fs::write(&file, format!("version: 0.1\nstorage: inmemory\nhttp: {{addr: '{address}'}}\n")).unwrap();
    let output = output(&mut program(&["serve", file.to_str().unwrap()]), "");
    let (code, _, stderr) = told(&output);
    assert_eq!(code, Some(1));
    let expected =
        format!("registry-server: failed to listen on {address}: Address already in use (os error 98)\n");
    assert!(stderr.ends_with(&expected), "{stderr}");
}

#[test]
fn old_uploads_are_removed_by_command_and_a_dry_run_tells_it_before() {
    let directory = tempfile::tempdir().unwrap();
    let settings = directory.path().join("config.yml");
    let root = directory.path().join("root");
    fs::write(&settings, format!("version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\n"))
        .unwrap();
    let session = root
        .join("docker/registry/v2/repositories/team/app/_uploads/67e55044-10b1-426f-9247-bb680e5fe0c8/data");
    fs::create_dir_all(session.parent().unwrap()).unwrap();
    fs::write(&session, "hello").unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(8 * 86_400);
    fs::File::options().write(true).open(&session).unwrap().set_modified(long_ago).unwrap();

    let rows: [(&[&str], &str, bool); 4] = [
        (&["--older-than", "200h"], "0 uploads of 0 bytes removed\n", true),
        (&["--dry-run"], "1 upload of 5 bytes would be removed\n", true),
        (&[], "1 upload of 5 bytes removed\n", false),
        (&[], "0 uploads of 0 bytes removed\n", false),
    ];
    for (flags, printed, is_left) in rows {
        let arguments = [&["purge-uploads"], flags, &[settings.to_str().unwrap()]].concat();
        let output = output(&mut program(&arguments), "");
        let (code, out, errors) = told(&output);
        assert_eq!((code, out), (Some(0), printed), "{flags:?} {errors}");
        assert_eq!(session.exists(), is_left, "{flags:?}");
    }
}
