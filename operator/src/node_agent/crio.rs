//! Whether a node's CRI-O reads what the agent writes, as its configuration tells, and which hosts others have configured.
//!
//! CRI-O reads `certs.d` for every pull. It reads `registries.conf.d` at its start and at a SIGHUP; by itself only if
//! `auto_reload_registries` is set, which it knows since 1.30. Checked against the source of CRI-O 1.35 and of the image
//! library that it uses.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::disk::on_host;
use super::layout::Registries;
use crate::api::node_access::NodeReason;
use crate::conditions::Verdict;
use crate::node_access::distribution::Distribution;

/// What makes CRI-O read changes by itself.
const SETTING: &str = "auto_reload_registries";

/// Whether CRI-O reads changes by itself.
#[must_use]
pub fn verdict(host: &Path) -> Verdict<NodeReason> {
    let mut is_reloading = None;
    for file in configuration(host) {
        let name = file.display();
        let table = fs::read_to_string(on_host(host, &name.to_string()))
            .map_err(|error| error.to_string())
            .and_then(|text| text.parse::<Table>().map_err(|error| error.message().to_owned()));
        match table {
            Err(error) => {
                let message = format!("{name} cannot be read: {error}");
                return Verdict::new(false, NodeReason::ConfigUnreadable, message);
            }
            Ok(table) => {
                is_reloading = setting(&table).map(|value| (value, name.to_string())).or(is_reloading);
            }
        }
    }
    match is_reloading {
        Some((true, file)) => Verdict::new(true, NodeReason::Configured, format!("{file} sets {SETTING}")),
        _ => Verdict::new(false, NodeReason::ReloadNeeded, reload_needed()),
    }
}

/// The file of others that says where `name` is, if there is one.
#[must_use]
pub fn configured_elsewhere(root: &Path, name: &str) -> Option<PathBuf> {
    let files =
        sorted(&root.join("registries.conf.d"), "conf").into_iter().chain([root.join("registries.conf")]);
    files
        .filter(|path| path.file_name().is_none_or(|file| file != super::layout::file_name(name).as_str()))
        .find(|path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let Ok(Registries { registry }) = toml::from_str(&text) else { return false };
            registry.iter().any(|one| one.prefix.as_ref().unwrap_or(&one.own.location) == name)
        })
}

/// The files of the configuration as the node names them, in the order in which they are read: later ones win.
fn configuration(host: &Path) -> Vec<PathBuf> {
    let directory = Path::new(Distribution::CriO.configuration());
    let mounted = on_host(host, Distribution::CriO.configuration());
    let main = Some(directory.join("crio.conf")).filter(|_| mounted.join("crio.conf").exists());
    let further = sorted(&mounted.join("crio.conf.d"), "").into_iter();
    let further = further.filter_map(|path| Some(directory.join("crio.conf.d").join(path.file_name()?)));
    main.into_iter().chain(further).collect()
}

/// The files of a directory in their order; with the extension, unless it is empty.
fn sorted(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.retain(|path| extension.is_empty() || path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

fn setting(table: &Table) -> Option<bool> {
    table.get("crio")?.get("image")?.get(SETTING).and_then(Value::as_bool)
}

fn reload_needed() -> String {
    let directory = Distribution::CriO.configuration();
    format!(
        "CRI-O reads registries.conf.d only when it is told to. Write {directory}/crio.conf.d/50-windlass.conf (CRI-O \
         since 1.30):\n[crio.image]\n  {SETTING} = true\nThen restart CRI-O once. Without, reload it after each change: \
         systemctl reload crio."
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{configured_elsewhere, verdict};

    const ON: &str = "[crio.image]\nauto_reload_registries = true\n";
    const OFF: &str = "[crio.image]\nauto_reload_registries = false\n";

    #[test]
    fn it_reads_changes_by_itself_if_it_was_told_to_last() {
        for (files, reason, told) in [
            (vec![("crio.conf", ON)], "Configured", "/etc/crio/crio.conf sets auto_reload_registries"),
            (
                vec![("crio.conf.d/10-crio.conf", "[crio.runtime]\n"), ("crio.conf.d/20.conf", ON)],
                "Configured",
                "20.conf",
            ),
            (
                vec![("crio.conf", ON), ("crio.conf.d/10.conf", OFF)],
                "ReloadNeeded",
                "crio.conf.d/50-windlass.conf",
            ),
            (vec![("crio.conf", OFF), ("crio.conf.d/10.conf", ON)], "Configured", "10.conf"),
            (vec![("crio.conf", ON), ("crio.conf.d/10.conf", "[crio]\n")], "Configured", "crio.conf"),
            (vec![("crio.conf", "")], "ReloadNeeded", "systemctl reload crio"),
            (vec![], "ReloadNeeded", "restart CRI-O once"),
            (vec![("crio.conf.d/10.conf", "[crio")], "ConfigUnreadable", "/etc/crio/crio.conf.d/10.conf"),
        ] {
            let host = tempfile::tempdir().unwrap();
            fs::create_dir_all(host.path().join("etc/crio/crio.conf.d")).unwrap();
            for (name, text) in &files {
                fs::write(host.path().join("etc/crio").join(name), text).unwrap();
            }
            let verdict = verdict(host.path());
            assert_eq!(
                (verdict.reason.to_string().as_str(), verdict.status == "True"),
                (reason, reason == "Configured")
            );
            assert!(verdict.message.contains(told), "{}", verdict.message);
        }
    }

    #[test]
    fn a_registry_that_others_have_configured_is_found() {
        let root = tempfile::tempdir().unwrap();
        let drop_in = root.path().join("registries.conf.d");
        fs::create_dir(&drop_in).unwrap();
        fs::write(
            drop_in.join("windlass-hub_5000.conf"),
            "[[registry]]\nprefix = \"hub:5000\"\nlocation = \"x\"\n",
        )
        .unwrap();
        fs::write(drop_in.join("notes.txt"), "[[registry]]\nlocation = \"hub:5000\"\n").unwrap();
        assert_eq!(configured_elsewhere(root.path(), "hub:5000"), None);
        for (file, text) in [
            ("registries.conf.d/a.conf", "[[registry]]\nprefix = \"hub:5000\"\nlocation = \"x\"\n"),
            (
                "registries.conf",
                "unqualified-search-registries = []\n[[registry]]\nlocation = \"hub:5000\"\nblocked = true\n",
            ),
        ] {
            let path = root.path().join(file);
            fs::write(&path, text).unwrap();
            assert_eq!(configured_elsewhere(root.path(), "hub:5000"), Some(path.clone()), "{file}");
            assert_eq!(configured_elsewhere(root.path(), "other:5000"), None);
            fs::remove_file(path).unwrap();
        }
    }
}
