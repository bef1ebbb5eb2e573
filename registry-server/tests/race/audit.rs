//! What must hold when all is over: every tag pulls whole, and no byte is left that no tag leads to.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::client::{Answer, Client, get};
use crate::harness::content::sha256;
use crate::harness::tree::{blob_path, files_under};
use crate::pusher::{Stop, manifest_at};

/// Pulls all that the reference leads to, and gives the manifest's digest; `None` when there is no such tag.
pub(crate) async fn pull(
    client: &mut Client,
    repository: &str,
    reference: &str,
) -> Result<Option<String>, Stop> {
    let first = fetch(client, &manifest_at(repository, reference)).await?;
    if first.status == 404 {
        return Ok(None);
    }
    let named = sha256(&first.body);
    let mut pending = vec![first];
    while let Some(manifest) = pending.pop() {
        for child in digests(&manifest.json(), &["manifests"]) {
            pending.push(whole(client, &manifest_at(repository, &child), &child).await?);
        }
        for blob in digests(&manifest.json(), &["config", "layers"]) {
            whole(client, &format!("/v2/{repository}/blobs/{blob}"), &blob).await?;
        }
    }
    Ok(Some(named))
}

async fn whole(client: &mut Client, path: &str, digest: &str) -> Result<Answer, Stop> {
    let answer = fetch(client, path).await?;
    if answer.status == 200 && sha256(&answer.body) == digest {
        Ok(answer)
    } else {
        Err(Stop::Broken(format!("GET {path}: {answer}")))
    }
}

async fn fetch(client: &mut Client, path: &str) -> Result<Answer, Stop> {
    client.try_send(get(path)).await.map_err(|_| Stop::Unanswered)
}

/// The digests that a manifest names under the keys.
fn digests(manifest: &Value, keys: &[&str]) -> Vec<String> {
    let under = |key: &&str| match &manifest[*key] {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    let descriptors = keys.iter().flat_map(under);
    descriptors.filter_map(|descriptor| Some(descriptor["digest"].as_str()?.to_owned())).collect()
}

/// All files of the tree, and of the quarantine beside it, relative to the root.
pub(crate) fn files(root: &Path) -> BTreeSet<String> {
    let places = ["docker", "windlass/quarantine"].map(|place| files_under(&root.join(place)));
    let relative =
        |path: &Path| path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
    places.iter().flatten().map(|path| relative(path)).collect()
}

/// The files to which no tag of the tree leads.
pub(crate) fn unreachable(root: &Path) -> Vec<String> {
    let files = files(root);
    let (mut reached, mut histories) = (BTreeSet::new(), Vec::new());
    for current in files.iter().filter(|path| path.ends_with("/current/link")) {
        let (repository, tag) = current.split_once("/_manifests/tags/").expect("a tag's path");
        let tag = tag.strip_suffix("/current/link").expect("as filtered");
        let digest = fs::read_to_string(root.join(current)).expect("a link can be read");
        reached.insert(current.clone());
        reach(root, repository, &digest, &mut reached);
        let history = format!("{repository}/_manifests/tags/{tag}/index/");
        histories.extend(files.iter().filter(|path| path.starts_with(&history)).cloned());
    }
    // What a tag has named before belongs to it for as long as the manifest is there.
    for path in histories {
        let (tag, manifest) = path.split_once("/index/").expect("as filtered");
        let (manifests, _) = tag.split_once("/tags/").expect("as filtered");
        if reached.contains(&format!("{manifests}/revisions/{manifest}")) {
            reached.insert(path);
        }
    }
    files.difference(&reached).cloned().collect()
}

fn reach(root: &Path, repository: &str, digest: &str, reached: &mut BTreeSet<String>) {
    let data = format!("docker/registry/v2/{}", blob_path(digest));
    let manifest: Value = serde_json::from_slice(&fs::read(root.join(&data)).expect("a manifest's data"))
        .expect("a manifest is JSON");
    reached.insert(data);
    reached.insert(format!("{repository}/_manifests/revisions/{}/link", digest.replace(':', "/")));
    for child in digests(&manifest, &["manifests"]) {
        reach(root, repository, &child, reached);
    }
    for blob in digests(&manifest, &["config", "layers"]) {
        reached.insert(format!("docker/registry/v2/{}", blob_path(&blob)));
        reached.insert(format!("{repository}/_layers/{}/link", blob.replace(':', "/")));
    }
}
