//! A small image of three layers that can be run: `e2e/hello`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::tools;

/// Tag of the image in its layout.
const TAG: &str = "v1";

static LAYOUT: OnceCell<PathBuf> = OnceCell::const_new();

/// The directory of the image as an OCI layout. It is built once a run, from layers that are kept between runs.
///
/// # Errors
/// When it cannot be built.
pub async fn layout() -> anyhow::Result<&'static Path> {
    LAYOUT.get_or_try_init(build).await.map(PathBuf::as_path)
}

/// The image as skopeo calls it.
///
/// # Errors
/// As [`layout`].
pub async fn for_skopeo() -> anyhow::Result<String> {
    Ok(format!("oci:{}:{TAG}", layout().await?.display()))
}

async fn build() -> anyhow::Result<PathBuf> {
    let cache = cache().context("neither WINDLASS_CACHE, XDG_CACHE_HOME nor HOME is set")?;
    let work = tempfile::tempdir()?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("hello");
    for file in ["Containerfile", "hello"] {
        std::fs::copy(sources.join(file), work.path().join(file))?;
    }
    std::fs::copy("/bin/busybox", work.path().join("busybox")).context("busybox-static is not installed")?;
    let (root, run) = (cache.join("buildah/root"), cache.join("buildah/run"));
    let mut buildah = Command::new("buildah");
    buildah.arg("--root").arg(&root).arg("--runroot").arg(&run).args(["--storage-driver", "vfs"]);
    buildah.args(["bud", "--quiet", "--layers", "--isolation", "chroot", "--timestamp", "0"]);
    tools::run_command(buildah.args(["--tag", "localhost/hello:v1"]).arg(work.path())).await?;
    // What is in the way is of an earlier run; the new one takes its place only when it is whole.
    let layout = cache.join("e2e/hello");
    let image = format!("containers-storage:[vfs@{}+{}]localhost/hello:v1", root.display(), run.display());
    let whole = work.path().join("layout");
    let target = format!("oci:{}:{TAG}", whole.display());
    tools::run("skopeo", &["copy", "--quiet", &image, &target]).await?;
    replace(&whole, &layout).await?;
    Ok(layout)
}

async fn replace(from: &Path, to: &Path) -> anyhow::Result<()> {
    let parent = to.parent().context("a directory without a parent")?;
    std::fs::create_dir_all(parent)?;
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    tools::run_command(Command::new("cp").arg("--recursive").arg(from).arg(to)).await?;
    Ok(())
}

fn cache() -> Option<PathBuf> {
    let directory =
        |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    directory("WINDLASS_CACHE")
        .or_else(|| directory("XDG_CACHE_HOME").map(|cache| cache.join("windlass")))
        .or_else(|| directory("HOME").map(|home| home.join(".cache/windlass")))
}
