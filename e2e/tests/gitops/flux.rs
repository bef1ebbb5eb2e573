//! Flux's kustomize-controller as a process on this machine, and what its source-controller would do for it: serve an
//! artifact, and say so in a `GitRepository`.

use std::convert::Infallible;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use e2e::namespace::Namespace;
use e2e::oci;
use e2e::tools::{run, run_command};
use e2e::wait;
use http::Response;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

const SOURCES: &str = "source.toolkit.fluxcd.io";

/// Name of the source and of the Kustomization, as in the documentation.
const NAME: &str = "registries";

/// The log of the controller.
const LOG: &str = "kustomize-controller.log";

/// A controller that looks after one namespace, and the source that it applies.
pub(crate) struct Flux {
    namespace: Namespace,
    home: TempDir,
    artifact: Arc<Mutex<Bytes>>,
    port: u16,
    revision: AtomicU32,
    server: JoinHandle<()>,
    _controller: Child,
}

impl Drop for Flux {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Flux {
    /// Starts the controller, with the Kustomization of the documentation.
    pub(crate) async fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        install_definitions(namespace).await?;
        let home = tempfile::tempdir()?;
        let log = std::fs::File::create(home.path().join(LOG))?;
        let mut controller = Command::new("kustomize-controller");
        controller.args(["--watch-all-namespaces=false", "--metrics-addr=0", "--health-addr=127.0.0.1:0"]);
        // It makes its own temporary files, which go with the home.
        controller.env("RUNTIME_NAMESPACE", &namespace.name).env("TMPDIR", home.path());
        controller.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let controller = controller.spawn().context("start kustomize-controller; run `make e2e-gitops`")?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let artifact = Arc::new(Mutex::new(Bytes::new()));
        let server = tokio::spawn(serve(listener, Arc::clone(&artifact)));
        let namespace = namespace.clone();
        let revision = AtomicU32::new(0);
        let flux = Self { namespace, home, artifact, port, revision, server, _controller: controller };
        flux.apply_documented().await?;
        Ok(flux)
    }

    /// What docs/gitops/flux.yaml holds, in this namespace.
    async fn apply_documented(&self) -> anyhow::Result<()> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gitops/flux.yaml");
        for document in serde_yaml::Deserializer::from_str(&std::fs::read_to_string(file)?) {
            let mut object: Value = serde::Deserialize::deserialize(document)?;
            object["metadata"]["namespace"] = json!(self.namespace.name);
            if object["kind"] == "Kustomization" {
                object["spec"]["targetNamespace"] = json!(self.namespace.name);
            }
            self.namespace.apply(object).await?;
        }
        Ok(())
    }

    /// Makes `objects` what lies in Git.
    pub(crate) async fn publish(&self, objects: &[Value]) -> anyhow::Result<()> {
        let archive = self.pack(objects).await?;
        let digest = oci::digest(&archive);
        let revision = format!("main@sha1:{:040x}", self.revision.fetch_add(1, Ordering::Relaxed) + 1);
        let size = archive.len();
        *self.artifact.lock().unwrap_or_else(PoisonError::into_inner) = archive;
        let source = self.source();
        let generation = source.get(NAME).await?.metadata.generation;
        let time = "2026-01-01T00:00:00Z";
        let ready = json!({"type": "Ready", "status": "True", "reason": "Succeeded", "message": "stored",
            "lastTransitionTime": time, "observedGeneration": generation});
        let artifact = json!({"digest": digest, "path": "artifact.tar.gz", "size": size,
            "url": format!("http://127.0.0.1:{}/artifact.tar.gz", self.port), "revision": revision,
            "lastUpdateTime": time});
        let status = json!({"status": {"observedGeneration": generation, "artifact": artifact, "conditions": [ready]}});
        source.patch_status(NAME, &PatchParams::default(), &Patch::Merge(status)).await?;
        Ok(())
    }

    async fn pack(&self, objects: &[Value]) -> anyhow::Result<Bytes> {
        let directory = tempfile::tempdir_in(self.home.path())?;
        let documents = objects.iter().map(serde_yaml::to_string).collect::<Result<Vec<_>, _>>()?;
        std::fs::write(directory.path().join("objects.yaml"), documents.join("---\n"))?;
        let archive = self.home.path().join("artifact.tar.gz");
        let mut tar = Command::new("tar");
        tar.args(["--create", "--gzip", "--file"]).arg(&archive);
        run_command(tar.arg("--directory").arg(directory.path()).arg(".")).await?;
        Ok(std::fs::read(archive)?.into())
    }

    /// Waits until the Kustomization has applied what was published last and its condition Ready says so; returns the
    /// message.
    pub(crate) async fn becomes(&self, status: &str, reason: &str) -> anyhow::Result<String> {
        let revision = format!("{:040x}", self.revision.load(Ordering::Relaxed));
        let is_such = |object: &DynamicObject| {
            let attempted = object.data["status"]["lastAttemptedRevision"].as_str().unwrap_or_default();
            attempted.ends_with(&revision)
                && ready(object).is_some_and(|ready| ready["status"] == status && ready["reason"] == reason)
        };
        let what = format!("Ready to be {status} because of {reason}");
        let found = wait::until(&self.kustomization(), NAME, &what, is_such).await?;
        let message = ready(&found).and_then(|ready| ready["message"].as_str());
        Ok(message.unwrap_or_default().to_owned())
    }

    /// Asks for a round and waits until it has ended.
    pub(crate) async fn reconcile(&self) -> anyhow::Result<()> {
        let api = self.kustomization();
        let now = api.get(NAME).await?.resource_version().unwrap_or_default();
        let request = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": now}}});
        api.patch(NAME, &PatchParams::default(), &Patch::Merge(request)).await?;
        let is_handled = |object: &DynamicObject| {
            object.data["status"]["lastHandledReconcileAt"] == json!(now)
                && ready(object).is_some_and(|ready| ready["status"] == "True")
        };
        wait::until(&api, NAME, "the round that was asked for", is_handled).await?;
        Ok(())
    }

    /// Deletes the Kustomization while somebody is there who takes its finalizer away: the namespace would stay else.
    pub(crate) async fn end(&self) -> anyhow::Result<()> {
        let api = self.kustomization();
        api.delete(NAME, &DeleteParams::background()).await?;
        wait::gone(&api, NAME).await
    }

    /// What the controller said last.
    pub(crate) fn end_of_log(&self) -> String {
        let log = std::fs::read_to_string(self.home.path().join(LOG)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default();
        format!("kustomize-controller:\n{}\n", end.join("\n"))
    }

    fn source(&self) -> Api<DynamicObject> {
        self.api(&GroupVersionKind::gvk(SOURCES, "v1", "GitRepository"), "gitrepositories")
    }

    fn kustomization(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("kustomize.toolkit.fluxcd.io", "v1", "Kustomization");
        self.api(&kind, "kustomizations")
    }

    fn api(&self, kind: &GroupVersionKind, plural: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk_with_plural(kind, plural);
        Api::namespaced_with(self.namespace.client.clone(), &self.namespace.name, &resource)
    }
}

fn ready(object: &DynamicObject) -> Option<&Value> {
    let conditions = object.data["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Ready")
}

/// Answers every request with the artifact.
async fn serve(listener: TcpListener, artifact: Arc<Mutex<Bytes>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let bytes = artifact.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = service_fn(move |_| {
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(bytes.clone()))))
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

/// Flux's definitions, unless the cluster has them: its own of the Kustomization, and of the sources as much as the
/// controller reads.
async fn install_definitions(namespace: &Namespace) -> anyhow::Result<()> {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/flux");
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", "github.com/fluxcd/kustomize-controller"]).current_dir(tool);
    let module: Value = serde_json::from_str(&run_command(go.env("GOTOOLCHAIN", "local")).await?)?;
    let directory = module["Dir"].as_str().context("go did not say where the module lies")?;
    let file = "config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml";
    let text = std::fs::read_to_string(Path::new(directory).join(file))?;
    let sources =
        [("GitRepository", "gitrepositories"), ("OCIRepository", "ocirepositories"), ("Bucket", "buckets")];
    let mut definitions = vec![serde_yaml::from_str(&text)?];
    definitions.extend(sources.map(|(kind, plural)| source_definition(kind, plural)));
    for definition in definitions {
        install(namespace, definition).await?;
    }
    let established = ["wait", "crd", "--for=condition=Established", "--timeout=60s"];
    let names = sources.map(|(_, plural)| format!("{plural}.{SOURCES}"));
    let arguments = established.into_iter().chain(names.iter().map(String::as_str));
    let arguments: Vec<&str> = arguments.chain(["kustomizations.kustomize.toolkit.fluxcd.io"]).collect();
    run("kubectl", &arguments).await?;
    Ok(())
}

/// What the namespace owns goes with it; what others have installed stays as it is.
async fn install(namespace: &Namespace, mut definition: Value) -> anyhow::Result<()> {
    let api = namespace.all::<CustomResourceDefinition>();
    let name = definition["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if api.get_opt(&name).await?.is_none() {
        let owner = namespace.all::<v1::Namespace>().get(&namespace.name).await?;
        let owner =
            json!({"apiVersion": "v1", "kind": "Namespace", "name": owner.name_any(), "uid": owner.uid()});
        definition["metadata"]["ownerReferences"] = json!([owner]);
        namespace.apply_to_cluster(definition).await?;
    }
    Ok(())
}

fn source_definition(kind: &str, plural: &str) -> Value {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{SOURCES}")},
        "spec": {"group": SOURCES, "scope": "Namespaced",
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": anything}}]}})
}
