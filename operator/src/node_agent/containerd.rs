//! Whether a node's containerd reads the directory that the agent writes to, as its configuration tells.
//!
//! containerd reads `hosts.toml` for every pull anew, but only below the `config_path` of its CRI plugin, which is read
//! once, at its start. Checked against the source of containerd 1.6 to 2.4:
//!
//! - The setting lies in another section since version 3 of the file (containerd 2.0), and there is no default that works
//!   everywhere: up to 2.1 it is empty; since 2.2 it is a list of two directories.
//! - A list separated by `:` is understood by containerd up to 2.0 and by local pulls. The transfer service, which pulls
//!   since 2.1, takes it for the name of one directory, without a word (containerd#12808).
//! - Imports are read after the file that names them. Up to 1.7 a section of a plugin replaces an earlier one as a whole;
//!   since 2.0 they are merged.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use globset::GlobBuilder;
use toml::{Table, Value};

use super::disk::on_host;
use crate::api::node_access::NodeReason;
use crate::conditions::Verdict;
use crate::node_access::distribution::Distribution;

/// Section of the CRI plugin up to version 2 of the file.
const CRI: &str = "io.containerd.grpc.v1.cri";

/// The same in version 1.
const OLD_CRI: &str = "cri";

/// Section of images since version 3 of the file.
const IMAGES: &str = "io.containerd.cri.v1.images";

/// The first version of the file that only containerd 2 reads.
const IMAGES_SINCE: i64 = 3;

/// What the configuration amounts to.
#[derive(Debug, Default)]
struct Setting {
    /// Version of the main file.
    version: i64,
    /// The main file, as the node names it.
    main: String,
    /// Value of `config_path`; empty if it is not set.
    config_path: String,
    /// The file that decided on it, as the node names it: that which sets it, or the last that could have.
    file: String,
    /// Whether pulls go past the transfer service.
    is_local_pull: bool,
    /// Whether the deprecated `mirrors` are set, beside which containerd takes no `config_path`.
    has_mirrors: bool,
    /// Imports that the agent does not see.
    unseen: Vec<String>,
}

/// Whether containerd reads the directory that is written to.
#[must_use]
pub fn verdict(host: &Path, distribution: Distribution) -> Verdict<NodeReason> {
    let main = format!("{}/{}", distribution.configuration(), main_file(distribution));
    if !on_host(host, &main).exists() {
        return Verdict::new(false, NodeReason::ConfigPathMissing, absent(&main, distribution.writable()));
    }
    match read(host, distribution, main) {
        Ok(setting) => judge(&setting, distribution),
        Err(message) => Verdict::new(false, NodeReason::ConfigUnreadable, message),
    }
}

/// The file that containerd is started with, in the directory of the configuration.
#[must_use]
pub fn main_file(distribution: Distribution) -> &'static str {
    match distribution {
        Distribution::Talos => "containerd.toml",
        _ => "config.toml",
    }
}

fn absent(main: &str, writable: &str) -> String {
    let lines = lines(2, writable);
    format!(
        "{main} does not exist, and what containerd does without it depends on its version. Write it, in a form that \
         all versions read:\nversion = 2\n{lines}\nThen restart containerd once."
    )
}

fn judge(setting: &Setting, distribution: Distribution) -> Verdict<NodeReason> {
    let writable = distribution.writable();
    let directories: Vec<&str> =
        setting.config_path.split(':').map(|path| path.trim_end_matches('/')).collect();
    let is_found = directories.contains(&writable);
    let is_split = setting.version < IMAGES_SINCE || setting.is_local_pull;
    let (reason, message) = if setting.config_path.is_empty() {
        (NodeReason::ConfigPathMissing, missing(setting, distribution))
    } else if !is_found {
        (NodeReason::ConfigPathElsewhere, elsewhere(setting, distribution))
    } else if directories.len() > 1 && !is_split {
        (NodeReason::ConfigPathElsewhere, not_split(setting, distribution))
    } else {
        let message = format!("{} sets config_path to {}", setting.file, setting.config_path);
        (NodeReason::Configured, message)
    };
    Verdict::new(reason == NodeReason::Configured, reason, message + &unseen(setting))
}

fn missing(setting: &Setting, distribution: Distribution) -> String {
    let lines = lines(setting.version, distribution.writable());
    let mirrors = if setting.has_mirrors {
        " Turn the mirrors of the same section into hosts.toml first: containerd does not start with both."
    } else {
        ""
    };
    format!(
        "{} sets no config_path. Add to {}:\n{lines}\nThen restart {} once.{mirrors}",
        setting.file,
        place(setting, distribution),
        distribution.name(),
    )
}

fn elsewhere(setting: &Setting, distribution: Distribution) -> String {
    let Setting { file, config_path, .. } = setting;
    let lines = lines(setting.version, distribution.writable());
    format!(
        "{file} sets config_path to {config_path}, where nothing of the node may be written. Move what lies there to {}, \
         and set in {}:\n{lines}\nThen restart {} once.",
        distribution.writable(),
        place(setting, distribution),
        distribution.name(),
    )
}

fn not_split(setting: &Setting, distribution: Distribution) -> String {
    let Setting { file, config_path, .. } = setting;
    let lines = lines(setting.version, distribution.writable());
    format!(
        "{file} sets config_path to the list {config_path}, which containerd since 2.1 takes for the name of one \
         directory (containerd#12808). Set in {}:\n{lines}\nThen restart {} once.",
        place(setting, distribution),
        distribution.name(),
    )
}

/// The lines that set the directory, in the form of the file's version.
fn lines(version: i64, writable: &str) -> String {
    let section = match version {
        ..=1 => format!("[plugins.{OLD_CRI}.registry]"),
        2 => format!("[plugins.\"{CRI}\".registry]"),
        _ => format!("[plugins.\"{IMAGES}\".registry]"),
    };
    format!("{section}\n  config_path = {}", Value::from(writable))
}

/// Where a change lasts: what writes the file itself has a place for it.
fn place(setting: &Setting, distribution: Distribution) -> String {
    let directory = distribution.configuration();
    match distribution {
        Distribution::K3s | Distribution::Rke2 if setting.version >= IMAGES_SINCE => {
            format!("{directory}/config-v3.toml.tmpl, from which it is made")
        }
        Distribution::K3s | Distribution::Rke2 => {
            format!("{directory}/config.toml.tmpl, from which it is made")
        }
        Distribution::Talos => {
            format!(
                "{directory}/conf.d/20-customization.part, by machine.files of the machine's configuration"
            )
        }
        _ => setting.file.clone(),
    }
}

fn unseen(setting: &Setting) -> String {
    if setting.unseen.is_empty() {
        return String::new();
    }
    format!(" {} imports {}, which cannot be seen from here.", setting.main, setting.unseen.join(", "))
}

/// Reads the main file and all that it imports.
fn read(host: &Path, distribution: Distribution, main: String) -> Result<Setting, String> {
    let mut setting = Setting { file: main.clone(), main: main.clone(), ..Setting::default() };
    let mut pending = VecDeque::from([main]);
    let mut seen = BTreeSet::new();
    while let Some(file) = pending.pop_front() {
        if !seen.insert(file.clone()) {
            continue;
        }
        if !Path::new(&file).starts_with(distribution.configuration()) {
            setting.unseen.push(file);
            continue;
        }
        if file.contains('*') {
            // A pattern that nothing matches, which containerd does without as well.
            continue;
        }
        let table = parse(host, &file)?;
        let version = table.get("version").and_then(Value::as_integer).unwrap_or(1);
        if file == setting.main {
            setting.version = version;
        }
        take(&mut setting, &table, version, &file);
        pending.extend(imports(host, &file, &table)?);
    }
    Ok(setting)
}

fn parse(host: &Path, file: &str) -> Result<Table, String> {
    let text =
        fs::read_to_string(on_host(host, file)).map_err(|error| format!("{file} cannot be read: {error}"))?;
    text.parse().map_err(|error: toml::de::Error| format!("{file} is no TOML: {}", error.message()))
}

/// Takes over what `file` says, which comes after what is known already.
fn take(setting: &mut Setting, table: &Table, version: i64, file: &str) {
    let Some(plugins) = table.get("plugins").and_then(Value::as_table) else { return };
    let names = if version < IMAGES_SINCE { &[OLD_CRI, CRI][..] } else { &[IMAGES][..] };
    for section in names.iter().filter_map(|name| plugins.get(*name)) {
        let registry = section.get("registry");
        let of_registry = |key: &str| registry.and_then(|registry| registry.get(key));
        let path = of_registry("config_path").and_then(Value::as_str).unwrap_or_default();
        // Up to version 2 a section replaces what came before, so that one without the setting takes it away.
        if !path.is_empty() || version < IMAGES_SINCE {
            path.clone_into(&mut setting.config_path);
            file.clone_into(&mut setting.file);
        }
        setting.has_mirrors |=
            of_registry("mirrors").and_then(Value::as_table).is_some_and(|all| !all.is_empty());
        let is_local_pull = section.get("use_local_image_pull").and_then(Value::as_bool);
        setting.is_local_pull = is_local_pull.unwrap_or(setting.is_local_pull);
    }
}

/// The files that `file` imports, as the node names them: relative to its directory, with `*` as a shell has it.
fn imports(host: &Path, file: &str, table: &Table) -> Result<Vec<String>, String> {
    let directory = Path::new(file).parent().unwrap_or_else(|| Path::new("/"));
    let mut files = Vec::new();
    for import in
        table.get("imports").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        let path = directory.join(import);
        if import.contains('*') {
            files.extend(matches(host, &path).map_err(|error| format!("{file} imports {import}: {error}"))?);
        } else {
            files.push(path.display().to_string());
        }
    }
    Ok(files)
}

/// The files that a pattern in the last part of `path` stands for, in their order; the pattern itself where its directory
/// cannot be looked into.
fn matches(host: &Path, path: &Path) -> Result<Vec<String>, globset::Error> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/")).display().to_string();
    let Ok(entries) = fs::read_dir(on_host(host, &directory)) else {
        return Ok(vec![path.display().to_string()]);
    };
    let pattern = path.file_name().unwrap_or_default().to_string_lossy();
    let pattern = GlobBuilder::new(&pattern).literal_separator(true).build()?.compile_matcher();
    let mut names: Vec<PathBuf> = entries.flatten().map(|entry| PathBuf::from(entry.file_name())).collect();
    names.retain(|name| pattern.is_match(name));
    names.sort();
    Ok(names.iter().map(|name| Path::new(&directory).join(name).display().to_string()).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::verdict;
    use crate::node_access::distribution::Distribution;

    /// What `containerd config default` prints since 1.6, without what does not matter here.
    const DEFAULT_1: &str = r#"
version = 2
imports = []
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.8"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = ""
    [plugins."io.containerd.grpc.v1.cri".registry.mirrors]
"#;

    /// The same of 2.x, which uses the other quotes.
    const DEFAULT_2: &str = r"
version = 3
imports = ['/etc/containerd/conf.d/*.toml']
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  use_local_image_pull = false
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = ''
[plugins.'io.containerd.transfer.v1.local']
  config_path = ''
";

    const CERTS: &str = "/etc/containerd/certs.d";

    fn old(config_path: &str) -> String {
        format!(
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"{config_path}\"\n"
        )
    }

    fn new(config_path: &str, more: &str) -> String {
        let section = "plugins.\"io.containerd.cri.v1.images\"";
        format!("version = 3\n[{section}]\n{more}\n[{section}.registry]\nconfig_path = \"{config_path}\"\n")
    }

    fn importing(pattern: &str) -> String {
        format!("version = 2\nimports = [\"{pattern}\"]\n")
    }

    /// The verdict on a node with these files, and its whole message.
    fn on(distribution: Distribution, files: &[(&str, &str)]) -> (String, String) {
        let host = tempfile::tempdir().unwrap();
        fs::create_dir_all(host.path().join(distribution.configuration().trim_start_matches('/'))).unwrap();
        for (path, text) in files {
            let path = host.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let verdict = verdict(host.path(), distribution);
        assert_eq!(verdict.status == "True", verdict.reason.to_string() == "Configured");
        (verdict.reason.to_string(), verdict.message)
    }

    fn check(distribution: Distribution, files: &[(&str, &str)], reason: &str, told: &[&str]) {
        let (found, message) = on(distribution, files);
        assert_eq!(found, reason, "{files:?}: {message}");
        for text in told {
            assert!(message.contains(text), "{text:?} is not in {message:?} of {files:?}");
        }
        assert!(message.len() < 1000, "{message}");
    }

    const OLD_LINES: &str = "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\nThen restart";

    const NEW_LINES: &str = "[plugins.\"io.containerd.cri.v1.images\".registry]\n  config_path = \"/etc/containerd/certs.d\"\nThen restart";

    #[test]
    fn one_file_decides_by_its_version() {
        let main = "/etc/containerd/config.toml";
        let list = "/etc/containerd/certs.d:/etc/docker/certs.d";
        for (text, reason, told) in [
            (old(CERTS), "Configured", "sets config_path to /etc/containerd/certs.d"),
            (old("/etc/containerd/certs.d/"), "Configured", main),
            (old(list), "Configured", list),
            (new(CERTS, ""), "Configured", main),
            (new(list, ""), "ConfigPathElsewhere", "containerd#12808"),
            (new(list, "use_local_image_pull = true"), "Configured", list),
            (new("/etc/docker/certs.d", ""), "ConfigPathElsewhere", NEW_LINES),
            (old("/etc/containerd/certs.d2"), "ConfigPathElsewhere", OLD_LINES),
            (DEFAULT_1.to_owned(), "ConfigPathMissing", OLD_LINES),
            (DEFAULT_2.to_owned(), "ConfigPathMissing", NEW_LINES),
            (
                "[plugins.cri.registry]\nconfig_path = \"/etc/containerd/certs.d\"".to_owned(),
                "Configured",
                main,
            ),
            (String::new(), "ConfigPathMissing", "[plugins.cri.registry]"),
            ("version = 2\n[plugins]\n".to_owned(), "ConfigPathMissing", OLD_LINES),
            // A section of the wrong version is passed over by containerd as well.
            (old(CERTS).replace("version = 2", "version = 3"), "ConfigPathMissing", NEW_LINES),
            (
                "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = []"
                    .to_owned(),
                "ConfigPathMissing",
                "does not start with both",
            ),
            ("version = = 2".to_owned(), "ConfigUnreadable", "config.toml is no TOML"),
        ] {
            check(Distribution::Containerd, &[(main, &text)], reason, &[told]);
        }
    }

    #[test]
    fn without_a_file_a_form_is_given_that_all_versions_read() {
        check(
            Distribution::Containerd,
            &[],
            "ConfigPathMissing",
            &["/etc/containerd/config.toml does not exist", "version = 2", OLD_LINES],
        );
    }

    #[test]
    fn imports_come_later_and_win() {
        let main = "/etc/containerd/config.toml";
        let (first, second) = ("/etc/containerd/conf.d/10-a.toml", "/etc/containerd/conf.d/20-b.toml");
        let all = importing("/etc/containerd/conf.d/*.toml");
        let bare = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"p\"\n";
        let bare_new = "version = 3\n[plugins.\"io.containerd.cri.v1.images\"]\nsnapshotter = \"p\"\n";
        let importing_new = new("", "").replace("version = 3", "version = 3\nimports = [\"conf.d/*.toml\"]");
        let (right, wrong) = (old(CERTS), old("/elsewhere"));
        for (files, reason, told) in [
            (vec![(main, all.as_str()), (first, right.as_str())], "Configured", first),
            (vec![(main, importing("conf.d/*.toml").as_str()), (first, &right)], "Configured", first),
            (vec![(main, importing("conf.d/10-a.toml").as_str()), (first, &right)], "Configured", first),
            (vec![(main, &all), (first, &right), (second, &wrong)], "ConfigPathElsewhere", second),
            (vec![(main, &all), (first, &wrong), (second, &right)], "Configured", second),
            // Up to 1.7 the later section replaces the earlier one, setting and all.
            (vec![(main, &all), (first, &right), (second, bare)], "ConfigPathMissing", second),
            (vec![(main, &importing_new), (first, &new(CERTS, "")), (second, bare_new)], "Configured", first),
            (vec![(main, &all), ("/etc/containerd/conf.d/30.conf", &right)], "ConfigPathMissing", main),
            (vec![(main, &importing("/etc/containerd/no/*.toml"))], "ConfigPathMissing", main),
            (
                vec![(main, &importing("/etc/containerd/no.toml"))],
                "ConfigUnreadable",
                "no.toml cannot be read",
            ),
            (
                vec![(main, &importing("/usr/share/containerd/*.toml"))],
                "ConfigPathMissing",
                "imports /usr/share/containerd/*.toml, which cannot be seen",
            ),
            // A circle ends.
            (vec![(main, &importing("config.toml"))], "ConfigPathMissing", main),
        ] {
            check(Distribution::Containerd, &files, reason, &[told]);
        }
    }

    #[test]
    fn distributions_that_write_the_file_themselves_are_told_where_a_change_lasts() {
        let k3s = "/var/lib/rancher/k3s/agent/etc/containerd";
        let rke2 = "/var/lib/rancher/rke2/agent/etc/containerd";
        let generated = |certs: &str| {
            format!(
                "# File generated by k3s. DO NOT EDIT. Use config.toml.tmpl instead.\nversion = 3\n\
                 imports = [\"{k3s}/config-v3.toml.d/*.toml\"]\nroot = \"/var/lib/rancher/k3s/agent/containerd\"\n\
                 [plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = \"{certs}\"\n"
            )
        };
        let talos =
            "version = 3\ndisabled_plugins = []\nimports = [\n\"/etc/cri/conf.d/cri.toml\",\n]\n[debug]\n";
        for (distribution, files, reason, told) in [
            (
                Distribution::K3s,
                vec![(format!("{k3s}/config.toml"), generated(&format!("{k3s}/certs.d")))],
                "Configured",
                "config.toml",
            ),
            (
                Distribution::K3s,
                vec![(format!("{k3s}/config.toml"), generated(""))],
                "ConfigPathMissing",
                "config-v3.toml.tmpl",
            ),
            (
                Distribution::Rke2,
                vec![(format!("{rke2}/config.toml"), old(""))],
                "ConfigPathMissing",
                "/config.toml.tmpl",
            ),
            (
                Distribution::Rke2,
                vec![(format!("{rke2}/config.toml"), old(&format!("{rke2}/certs.d")))],
                "Configured",
                "certs.d",
            ),
            (
                Distribution::Talos,
                vec![
                    ("/etc/cri/containerd.toml".to_owned(), talos.to_owned()),
                    ("/etc/cri/conf.d/cri.toml".to_owned(), new("/etc/cri/conf.d/hosts", "")),
                ],
                "Configured",
                "/etc/cri/conf.d/cri.toml sets config_path to /etc/cri/conf.d/hosts",
            ),
            (
                Distribution::Talos,
                vec![
                    ("/etc/cri/containerd.toml".to_owned(), talos.to_owned()),
                    ("/etc/cri/conf.d/cri.toml".to_owned(), new("", "")),
                ],
                "ConfigPathMissing",
                "20-customization.part",
            ),
        ] {
            let files: Vec<(&str, &str)> =
                files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            check(distribution, &files, reason, &[told]);
        }
    }

    #[test]
    fn the_configuration_is_only_read() {
        let host = tempfile::tempdir().unwrap();
        let file = host.path().join("etc/containerd/config.toml");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, DEFAULT_1).unwrap();
        assert_eq!(verdict(host.path(), Distribution::Containerd).status, "False");
        assert_eq!(fs::read_to_string(&file).unwrap(), DEFAULT_1);
        assert_eq!(fs::read_dir(Path::new(&file).parent().unwrap()).unwrap().count(), 1);
    }
}
