//! Putting the kubelet's credential provider, which is this very program, into a directory of the node.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::disk::on_host;
use crate::api::node_access::NodeReason;
use crate::conditions::Verdict;

/// The name by which kubelets start it.
const PROGRAM: &str = "windlass-credential-provider";

/// This program.
const OURSELVES: &str = "/proc/self/exe";

/// The credential provider in a directory of the node.
#[derive(Debug)]
pub struct Provider {
    /// The directory as the node names it.
    name: String,
    /// Where it is mounted.
    directory: PathBuf,
    /// What is put there.
    program: PathBuf,
    installation: String,
    /// What was found to be right: size and time of the last change, so that it is not compared again each time.
    seen: Option<(u64, std::time::SystemTime)>,
}

impl Provider {
    /// The directory `name` of the node below `mount`, for the installation of this name.
    #[must_use]
    pub fn new(mount: &Path, name: &str, installation: &str) -> Self {
        Self::of(PathBuf::from(OURSELVES), mount, name, installation)
    }

    fn of(program: PathBuf, mount: &Path, name: &str, installation: &str) -> Self {
        let name = name.trim_end_matches('/').to_owned();
        let directory = on_host(mount, &name);
        Self { name, directory, program, installation: installation.to_owned(), seen: None }
    }

    /// Puts the program there unless it is there, and never over somebody else's.
    pub fn install(&mut self) -> Verdict<NodeReason> {
        let path = self.directory.join(PROGRAM);
        let name = format!("{}/{PROGRAM}", self.name);
        if fs::symlink_metadata(&path).is_ok() && !self.is_ours() {
            let message = format!("{name} is somebody else's and is left as it is; remove it");
            return Verdict::new(false, NodeReason::Conflict, message);
        }
        match self.put(&path) {
            Ok(true) => tracing::info!("wrote {name}"),
            Ok(false) => {}
            Err(error) => {
                return Verdict::new(
                    false,
                    NodeReason::WriteFailed,
                    format!("{name} cannot be written: {error}"),
                );
            }
        }
        self.seen = trace(&path);
        Verdict::new(true, NodeReason::Installed, format!("{name} is the program of this release"))
    }

    /// Removes the program if it is ours.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self) -> io::Result<()> {
        if !self.is_ours() {
            return Ok(());
        }
        for name in [self.draft(), self.directory.join(PROGRAM), self.mark()] {
            match fs::remove_file(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Says whether anything had to be written.
    fn put(&self, path: &Path) -> io::Result<bool> {
        let present = trace(path);
        if present.is_some() && (present == self.seen || is_same(&self.program, path)?) {
            return Ok(false);
        }
        // The mark comes first: without it, a program that is cut off here would be taken for somebody else's.
        fs::write(self.mark(), self.marked())?;
        let draft = self.draft();
        fs::copy(&self.program, &draft)?;
        fs::set_permissions(&draft, Permissions::from_mode(0o755))?;
        File::open(&draft)?.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(&self.directory)?.sync_all()?;
        Ok(true)
    }

    fn is_ours(&self) -> bool {
        fs::read_to_string(self.mark()).is_ok_and(|mark| mark == self.marked())
    }

    fn marked(&self) -> String {
        format!("Installed and removed by Windlass: installation {}\n", self.installation)
    }

    fn mark(&self) -> PathBuf {
        self.directory.join(format!(".{PROGRAM}"))
    }

    fn draft(&self) -> PathBuf {
        self.directory.join(format!(".{PROGRAM}.{}~", self.installation))
    }
}

fn trace(path: &Path) -> Option<(u64, std::time::SystemTime)> {
    let metadata = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some((metadata.len(), metadata.modified().ok()?))
}

fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    Ok(fs::metadata(one)?.len() == fs::metadata(other)?.len() && fs::read(one)? == fs::read(other)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::{PROGRAM, Provider};
    use crate::api::node_access::NodeReason;

    #[test]
    fn the_program_is_put_there_replaced_and_removed_and_somebody_elses_is_left_alone() {
        let mount = tempfile::tempdir().unwrap();
        let directory = mount.path().join("opt/bin");
        fs::create_dir_all(&directory).unwrap();
        let program = mount.path().join("operator");
        fs::write(&program, "release 1").unwrap();
        let path = directory.join(PROGRAM);
        let provider = || Provider::of(program.clone(), mount.path(), "/opt/bin/", "windlass");
        assert_eq!(provider().install().reason, NodeReason::Installed);
        assert_eq!(fs::read_to_string(&path).unwrap(), "release 1");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);

        fs::write(&program, "release 2").unwrap();
        let other = Provider::of(program.clone(), mount.path(), "/opt/bin", "other").install();
        assert_eq!((other.status, other.reason), ("False", NodeReason::Conflict));
        assert_eq!(fs::read_to_string(&path).unwrap(), "release 1");
        let mut next = provider();
        assert_eq!(next.install().reason, NodeReason::Installed);
        assert_eq!(fs::read_to_string(&path).unwrap(), "release 2");
        fs::remove_file(&path).unwrap();
        next.install();
        assert!(path.exists());

        next.remove().unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::write(&path, "theirs").unwrap();
        assert_eq!(next.install().reason, NodeReason::Conflict);
        next.remove().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let mount = tempfile::tempdir().unwrap();
        let verdict = Provider::new(mount.path(), "/opt/bin", "windlass").install();
        assert_eq!((verdict.status, verdict.reason), ("False", NodeReason::WriteFailed));
        assert!(verdict.message.contains("/opt/bin/windlass-credential-provider"), "{}", verdict.message);
    }
}
