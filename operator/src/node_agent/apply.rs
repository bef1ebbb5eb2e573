//! Making the node hold what the plan says, and no more of ours.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::Path;

use super::disk::{Content, Disk, Owner, Piece, on_host, perform};
use super::{crio, layout};
use crate::api::node_access::NodeReason;
use crate::node_access::distribution::Distribution;
use crate::node_access::plan::{Plan, PlannedHost, PlannedRegistry};

/// What became of one Registry on the disk.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// Namespace and name of the Registry.
    pub name: String,
    /// The form of the plan's entry; nothing if it is not in the plan any more.
    pub revision: Option<String>,
    /// What went wrong, with reasons; the first decides.
    pub problems: Vec<(NodeReason, String)>,
    /// The hosts for which all is written.
    pub written: Vec<String>,
}

/// The pieces that have their place, and for which Registry.
type Claims = BTreeMap<(&'static str, String), String>;

/// A node's runtime with the part of its disk that may be written to.
#[derive(Clone, Debug)]
pub struct Node {
    /// How it is set up.
    pub distribution: Distribution,
    /// What is written to.
    pub disk: Disk,
}

impl Node {
    /// The node whose directories are mounted below `mount`, for the installation of this name.
    #[must_use]
    pub fn new(mount: &Path, distribution: Distribution, installation: &str) -> Self {
        let root = on_host(mount, distribution.writable());
        let disk = Disk::new(root, layout::areas(distribution), installation);
        Self { distribution, disk }
    }

    /// Makes the disk hold `plan`. What is ours and not in it is removed.
    #[must_use]
    pub fn apply(&self, plan: &Plan) -> Vec<Outcome> {
        self.clear();
        let mut claims = Claims::new();
        let mut outcomes: Vec<Outcome> =
            plan.registries.iter().map(|registry| self.write(registry, &mut claims)).collect();
        self.prune(&claims, &mut outcomes);
        outcomes
    }

    /// Removes all that is ours; returns what could not be removed.
    #[must_use]
    pub fn remove_all(&self) -> Vec<Outcome> {
        self.apply(&Plan::default())
    }

    fn clear(&self) {
        if let Err(error) = perform(&self.disk.clear()) {
            tracing::warn!(%error, cause = %cause(&error), "the remains of an earlier run cannot be removed");
        }
    }

    fn write(&self, registry: &PlannedRegistry, claims: &mut Claims) -> Outcome {
        let revision = Some(registry.revision());
        let mut outcome = Outcome { name: registry.name.clone(), revision, ..Outcome::default() };
        if let Some(name) = layout::invalid_name(registry) {
            outcome.problems.push((NodeReason::InvalidName, format!("{name} can be part of no file's name")));
            return outcome;
        }
        for host in &registry.hosts {
            let pieces = layout::pieces(self.distribution, registry, host);
            let conflict = pieces.iter().find_map(|piece| self.conflict(piece, host, claims));
            if let Some(message) = conflict {
                outcome.problems.push((NodeReason::Conflict, message));
                continue;
            }
            for piece in &pieces {
                claims.insert((piece.area, piece.name.clone()), registry.name.clone());
            }
            match pieces.iter().try_for_each(|piece| self.place(piece)) {
                Ok(()) => outcome.written.push(host.name.clone()),
                Err(message) => outcome.problems.push((NodeReason::WriteFailed, message)),
            }
        }
        outcome
    }

    fn place(&self, piece: &Piece) -> Result<(), String> {
        let steps = self.disk.place(piece);
        perform(&steps).map_err(|error| format!("{error}: {}", cause(&error)))?;
        if !steps.is_empty() {
            tracing::info!(
                registry = piece.registry,
                directory = self.distribution.writable(),
                "wrote {piece}"
            );
        }
        Ok(())
    }

    /// Who else has configured `host`, in words.
    fn conflict(&self, piece: &Piece, host: &PlannedHost, claims: &Claims) -> Option<String> {
        let root = self.distribution.writable();
        let foreign =
            |name: &str| format!("{root}/{name} is somebody else's and is left as it is; remove it");
        if let Some(other) = claims.get(&(piece.area, piece.name.clone()))
            && *other != piece.registry
        {
            return Some(format!("{} is a name of {other} as well", piece.name));
        }
        if self.disk.owner(piece.area, &piece.name) == Owner::Foreign {
            return Some(foreign(&piece.to_string()));
        }
        if let (Distribution::CriO, Content::File(_)) = (self.distribution, &piece.content) {
            let file = crio::configured_elsewhere(&self.disk.path("", ""), &host.name)?;
            let file = file.strip_prefix(self.disk.path("", "")).unwrap_or(&file).display().to_string();
            return Some(format!(
                "{root}/{file} says where {} is and is left as it is; remove that",
                host.name
            ));
        }
        // containerd looks for this spelling first.
        let (name, port) = host.name.rsplit_once(':')?;
        let spelling = format!("{name}_{port}_");
        let is_hidden = self.distribution != Distribution::CriO
            && self.disk.owner(piece.area, &spelling) != Owner::Nobody;
        is_hidden.then(|| foreign(&spelling))
    }

    fn prune(&self, claims: &Claims, outcomes: &mut Vec<Outcome>) {
        let obsolete = self
            .disk
            .ours()
            .into_iter()
            .filter(|(area, name, _)| !claims.contains_key(&(*area, name.clone())));
        for (area, name, registry) in obsolete {
            match perform(&self.disk.remove(area, &name)) {
                Ok(()) => {
                    tracing::info!(registry, directory = self.distribution.writable(), "removed {name}");
                }
                Err(error) => {
                    let problem = (NodeReason::WriteFailed, format!("{error}: {}", cause(&error)));
                    match outcomes.iter_mut().find(|outcome| outcome.name == registry) {
                        Some(outcome) => outcome.problems.push(problem),
                        None => outcomes.push(Outcome {
                            name: registry,
                            problems: vec![problem],
                            ..Outcome::default()
                        }),
                    }
                }
            }
        }
    }
}

fn cause(error: &super::disk::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use serde_json::{Value, json};

    use super::{Node, Outcome};
    use crate::node_access::distribution::Distribution;
    use crate::node_access::plan::Plan;

    struct Stage {
        mount: tempfile::TempDir,
        node: Node,
    }

    impl Stage {
        fn new(distribution: Distribution) -> Self {
            let mount = tempfile::tempdir().unwrap();
            let node = Node::new(mount.path(), distribution, "windlass");
            let stage = Self { mount, node };
            fs::create_dir_all(stage.root()).unwrap();
            stage
        }

        fn root(&self) -> PathBuf {
            self.mount.path().join(self.node.distribution.writable().trim_start_matches('/'))
        }

        /// Applies a plan of registries, each a name with its hosts, and returns what became of them.
        fn apply(&self, registries: &[(&str, &[&str])]) -> Vec<String> {
            self.node.apply(&plan(registries)).iter().map(summary).collect()
        }

        fn entries(&self, area: &str) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(self.root().join(area))
                .map(|entries| {
                    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
                })
                .unwrap_or_default();
            names.sort();
            names
        }
    }

    fn plan(registries: &[(&str, &[&str])]) -> Plan {
        let registries: Vec<Value> = registries
            .iter()
            .map(|(name, hosts)| {
                let hosts: Vec<Value> = hosts.iter().map(|host| json!({"name": host})).collect();
                let endpoint = format!("https://10.0.0.{}:5000", name.len());
                json!({"name": name, "hosts": hosts, "endpoints": [endpoint], "authorities": "CA"})
            })
            .collect();
        serde_json::from_value(json!({"registries": registries})).unwrap()
    }

    fn summary(outcome: &Outcome) -> String {
        let reasons: Vec<String> = outcome.problems.iter().map(|(reason, _)| reason.to_string()).collect();
        format!("{} {:?} {}", outcome.name, outcome.written, reasons.join(",")).trim_end().to_owned()
    }

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_node_follows_the_plan_as_it_grows_and_shrinks() {
        let stage = Stage::new(Distribution::Containerd);
        let both: &[(&str, &[&str])] =
            &[("a/hub", &["hub.a.svc:5000", "images.example"]), ("b/hub", &["hub.b.svc:5000"])];
        let expected = [r#"a/hub ["hub.a.svc:5000", "images.example"]"#, r#"b/hub ["hub.b.svc:5000"]"#];
        assert_eq!(stage.apply(both), expected);
        assert_eq!(stage.entries(""), ["hub.a.svc:5000", "hub.b.svc:5000", "images.example"]);
        assert_eq!(stage.entries("hub.a.svc:5000"), [".windlass", "ca.crt", "hosts.toml"]);
        stage.apply(&[("a/hub", &["hub.a.svc:5000"])]);
        assert_eq!(stage.entries(""), ["hub.a.svc:5000"]);
        assert_eq!(stage.node.remove_all(), []);
        assert_eq!(stage.entries(""), [""; 0]);
    }

    #[test]
    fn crio_gets_its_files_and_loses_them() {
        let stage = Stage::new(Distribution::CriO);
        write(&stage.root().join("registries.conf"), "unqualified-search-registries = [\"docker.io\"]\n");
        stage.apply(&[("a/hub", &["hub.a.svc:5000", "images.example"])]);
        assert_eq!(stage.entries("certs.d"), ["10.0.0.5:5000", "hub.a.svc:5000", "images.example"]);
        let files = ["windlass-hub.a.svc_5000.conf", "windlass-images.example.conf"];
        assert_eq!(stage.entries("registries.conf.d"), files);
        stage.apply(&[("a/hub", &["images.example"])]);
        assert_eq!(stage.entries("certs.d"), ["10.0.0.5:5000", "images.example"]);
        let _ = stage.node.remove_all();
        assert_eq!(stage.entries("certs.d").len() + stage.entries("registries.conf.d").len(), 0);
        assert!(stage.root().join("registries.conf").exists());
    }

    #[test]
    fn what_others_have_configured_is_left_byte_for_byte_and_taken_once_it_is_gone() {
        for (distribution, foreign, text) in [
            (Distribution::Containerd, "hub.a.svc:5000/hosts.toml", "theirs"),
            (Distribution::Containerd, "hub.a.svc_5000_/hosts.toml", "theirs"),
            (
                Distribution::Containerd,
                "hub.a.svc:5000/.windlass",
                "# Written and removed by Windlass as a whole: installation other, registry a/hub\n",
            ),
            (Distribution::CriO, "certs.d/hub.a.svc:5000/ca.crt", "theirs"),
            (Distribution::CriO, "certs.d/10.0.0.5:5000/ca.crt", "theirs"),
            (Distribution::CriO, "registries.conf.d/windlass-hub.a.svc_5000.conf", "theirs"),
            (
                Distribution::CriO,
                "registries.conf.d/50.conf",
                "[[registry]]\nlocation = \"hub.a.svc:5000\"\n",
            ),
        ] {
            let stage = Stage::new(distribution);
            let path = stage.root().join(foreign);
            write(&path, text);
            let outcome =
                stage.node.apply(&plan(&[("a/hub", &["hub.a.svc:5000", "images.example"])])).remove(0);
            if foreign.contains("10.0.0.5") {
                assert_eq!(outcome.problems.len(), 2);
            } else {
                assert_eq!(summary(&outcome), r#"a/hub ["images.example"] Conflict"#, "{foreign}");
            }
            let (entry, _) = foreign.rsplit_once('/').unwrap();
            let told = if entry == "registries.conf.d" { foreign } else { entry };
            let expected = format!("{}/{told}", distribution.writable());
            assert!(outcome.problems[0].1.contains(&expected), "{:?}", outcome.problems);
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            let _ = stage.node.remove_all();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);

            if entry == "registries.conf.d" {
                fs::remove_file(&path).unwrap();
            } else {
                fs::remove_dir_all(path.parent().unwrap()).unwrap();
            }
            let outcome = stage.apply(&[("a/hub", &["hub.a.svc:5000"])]);
            assert_eq!(outcome, [r#"a/hub ["hub.a.svc:5000"]"#], "{foreign}");
        }
    }

    #[test]
    fn of_two_registries_with_one_name_the_first_has_it() {
        for distribution in [Distribution::Containerd, Distribution::CriO] {
            let stage = Stage::new(distribution);
            let outcomes =
                stage.apply(&[("a/hub", &["images.example"]), ("bb/hub", &["images.example", "hub.bb.svc"])]);
            let expected = [r#"a/hub ["images.example"]"#, r#"bb/hub ["hub.bb.svc"] Conflict"#];
            assert_eq!(outcomes, expected);
            // A name that changes hands keeps its place.
            assert_eq!(stage.apply(&[("bb/hub", &["images.example"])]), [r#"bb/hub ["images.example"]"#]);
        }
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused_and_the_others_are_written() {
        let stage = Stage::new(Distribution::Containerd);
        let outcomes = stage.apply(&[("a/hub", &["../../x"]), ("b/hub", &["hub.b.svc:5000"])]);
        assert_eq!(outcomes, ["a/hub [] InvalidName", r#"b/hub ["hub.b.svc:5000"]"#]);
        assert_eq!(stage.entries(""), ["hub.b.svc:5000"]);
    }

    #[test]
    fn what_cannot_be_written_is_told_with_its_path() {
        let stage = Stage::new(Distribution::Containerd);
        fs::remove_dir(stage.root()).unwrap();
        fs::write(stage.root(), "no directory").unwrap();
        let outcomes = stage.node.apply(&plan(&[("a/hub", &["hub.a.svc:5000"])]));
        assert_eq!(summary(&outcomes[0]), "a/hub [] WriteFailed");
        assert!(outcomes[0].problems[0].1.contains("/etc/containerd/certs.d"), "{outcomes:?}");
    }

    #[test]
    fn the_remains_of_a_killed_agent_are_cleared_away() {
        let stage = Stage::new(Distribution::Containerd);
        write(&stage.root().join(".windlass.windlass.hub.a.svc:5000~/ca.crt"), "half");
        stage.apply(&[("a/hub", &["hub.a.svc:5000"])]);
        assert_eq!(stage.entries(""), ["hub.a.svc:5000"]);
    }
}
