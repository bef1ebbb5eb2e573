//! The commands in the documentation work as they stand there.

use std::path::Path;

use anyhow::ensure;
use e2e::case::{Outcome, with_namespace};
use e2e::tools::{run, run_command};
use tokio::process::Command;

/// The blocks of a Markdown text that are marked `sh`, one after another.
fn commands(markdown: &str) -> String {
    let mut inside = false;
    let mut script = String::new();
    for line in markdown.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside {
            script += line;
            script.push('\n');
        }
    }
    script
}

#[tokio::test]
async fn the_quickstart_works_from_its_first_command_to_its_last() -> Outcome {
    with_namespace("quickstart", async |namespace| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let script = commands(&std::fs::read_to_string(root.join("docs/quickstart.md"))?);
        ensure!(script.contains("kubectl apply"), "no commands were found");

        // The reader's context is in a namespace of theirs; so is this one, and the file of the suite stays as it is.
        let kubeconfig = tempfile::NamedTempFile::new()?;
        let flattened =
            run("kubectl", &["config", "view", "--minify", "--flatten", "--output", "yaml"]).await?;
        std::fs::write(kubeconfig.path(), flattened)?;
        let mut kubectl = Command::new("kubectl");
        kubectl.env("KUBECONFIG", kubeconfig.path());
        kubectl.args(["config", "set-context", "--current", "--namespace", &namespace.name]);
        run_command(&mut kubectl).await?;

        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &script])
            .current_dir(&root)
            .env("KUBECONFIG", kubeconfig.path());
        let shown = run_command(&mut bash).await?;
        ensure!(shown.contains("registry-server "), "the Pod did not say its version:\n{shown}");
        Ok(())
    })
    .await
}
