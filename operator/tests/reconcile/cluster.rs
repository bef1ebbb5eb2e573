//! A cluster in memory: just enough of an API server for a reconcile to read and write.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use kube::Client;
use kube::client::Body;
use operator::merge::merge;
use serde_json::{Map, Value, json};

/// Objects by path, and a record of every write.
#[derive(Clone, Default)]
pub(crate) struct Cluster(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    writes: Vec<String>,
    events: Vec<String>,
    failures: BTreeMap<String, u16>,
    /// Who has applied which fields of a status, by path.
    owned: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    clock: String,
    version: u64,
}

impl Cluster {
    /// A client of this cluster.
    pub(crate) fn client(&self) -> Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move { Ok::<_, Infallible>(cluster.serve(request).await) }
        });
        Client::new(service, "team-a")
    }

    /// The object at `path`, such as `services/hub`.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }

    /// Puts `object` at `path`, as somebody else would.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.0.lock().unwrap();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.objects.insert(path.to_owned(), object);
    }

    /// Changes the object at `path`, as somebody else would.
    pub(crate) fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).unwrap();
        change(&mut object);
        self.put(path, object);
    }

    /// Deletes the object at `path`, as somebody else would.
    pub(crate) fn remove(&self, path: &str) {
        self.0.lock().unwrap().objects.remove(path).unwrap();
    }

    /// Gives what is created from now on the time of creation `time`.
    pub(crate) fn set_clock(&self, time: &str) {
        time.clone_into(&mut self.0.lock().unwrap().clock);
    }

    /// Answers every write to `path`, and every list of it, with the status `code`.
    pub(crate) fn fail(&self, path: &str, code: u16) {
        self.0.lock().unwrap().failures.insert(path.to_owned(), code);
    }

    /// Answers as usual again.
    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().failures.clear();
    }

    /// The paths of all objects.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.0.lock().unwrap().objects.keys().cloned().collect()
    }

    /// The writes since the last call, as `METHOD path`, without Events.
    pub(crate) fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().writes)
    }

    /// The reasons of the Events since the last call.
    pub(crate) fn take_events(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().events)
    }

    async fn serve(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let whole = parts.uri.path();
        let of = |namespace: &str| whole.rsplit_once(namespace).map(|(_, path)| path);
        let path = of("/team-a/").or_else(|| of("/kube-public/")).unwrap_or(whole);
        let mut state = self.0.lock().unwrap();
        let (code, answer) = match parts.method {
            Method::GET if is_list(path) && state.failures.contains_key(path) => {
                failure(state.failures[path])
            }
            Method::GET if is_list(path) => (200, state.list(path, parts.uri.query().unwrap_or_default())),
            Method::GET => {
                state.objects.get(path).map_or_else(|| failure(404), |object| (200, object.clone()))
            }
            Method::POST if path != "events" => state.create(path, body),
            Method::POST => {
                state.events.push(body["reason"].as_str().unwrap().to_owned());
                (201, body)
            }
            method => state.write(&method, path, parts.uri.query().unwrap_or_default(), &body),
        };
        Response::builder().status(code).body(Full::from(answer.to_string())).unwrap()
    }
}

impl State {
    fn list(&self, path: &str, query: &str) -> Value {
        let kind = path.rsplit('/').next().unwrap();
        let wanted: Vec<(String, Option<String>)> = query
            .split('&')
            .filter_map(|pair| pair.strip_prefix("labelSelector="))
            .flat_map(|selector| selector.split("%2C").map(str::to_owned).collect::<Vec<_>>())
            .map(|term| {
                let term = term.replace("%2F", "/").replace("%3D", "=");
                match term.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (term, None),
                }
            })
            .collect();
        let items = self.objects.iter().filter(|(path, object)| {
            let labels = &object["metadata"]["labels"];
            path.starts_with(&format!("{kind}/"))
                && wanted.iter().all(|(key, value)| match value {
                    Some(value) => labels[key.as_str()] == value.as_str(),
                    None => labels.get(key).is_some(),
                })
        });
        let items: Vec<&Value> = items.map(|(_, object)| object).collect();
        let metadata = json!({"resourceVersion": self.version.to_string()});
        json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items})
    }

    /// The status after `manager` has applied `applied`: what it leaves out of what it had is gone, what others have stays.
    fn status(&mut self, path: &str, manager: &str, before: &Value, applied: &Value) -> Value {
        let owned = self.owned.entry(path.to_owned()).or_default();
        let had =
            owned.insert(manager.to_owned(), fields(applied).into_iter().map(|(field, _)| field).collect());
        let of_others =
            |field: &String| owned.iter().any(|(other, fields)| other != manager && fields.contains(field));
        let stays = |field: &String| match &had {
            Some(had) => of_others(field) || !had.contains(field),
            // What a test has put there is taken for the work of the one who writes most.
            None => of_others(field) || manager != "windlass",
        };
        let mut after = fields(applied);
        let kept = fields(before).into_iter().filter(|(field, _)| stays(field));
        let kept: Vec<_> =
            kept.filter(|(field, _)| !after.iter().any(|(applied, _)| applied == field)).collect();
        after.extend(kept);
        let (conditions, rest): (Vec<_>, Vec<_>) =
            after.into_iter().partition(|(field, _)| field.starts_with("condition "));
        let mut status: Map<String, Value> = rest.into_iter().collect();
        let conditions = conditions.into_iter().map(|(_, condition)| condition).collect();
        status.insert("conditions".to_owned(), conditions);
        Value::Object(status)
    }

    fn create(&mut self, kind: &str, mut object: Value) -> (u16, Value) {
        let path = format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap());
        self.writes.push(format!("POST {path}"));
        if let Some(code) = self.failures.get(&path) {
            return failure(*code);
        }
        if self.objects.contains_key(&path) {
            return failure(409);
        }
        self.version += 1;
        object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object["metadata"]["creationTimestamp"] = json!(self.clock);
        self.objects.insert(path, object.clone());
        (201, object)
    }

    fn write(&mut self, method: &Method, path: &str, query: &str, body: &Value) -> (u16, Value) {
        self.writes.push(format!("{method} {path}"));
        if let Some(code) = self.failures.get(path) {
            return failure(*code);
        }
        if method == Method::DELETE {
            return self.objects.remove(path).map_or_else(|| failure(404), |object| (200, object));
        }
        let is_status = path.ends_with("/status");
        let path = path.trim_end_matches("/status");
        let before = self.objects.get(path).cloned();
        let mut after: Map<String, Value> =
            before.clone().map_or_else(Map::new, |object| object.as_object().unwrap().clone());
        merge(&mut after, body.as_object().unwrap());
        let mut after = Value::Object(after);
        if is_status {
            let before = before.as_ref().map(|object| object["status"].clone()).unwrap_or_default();
            after["status"] = self.status(path, manager(query), &before, &body["status"]);
        }
        if path.starts_with("services/") {
            after["spec"]["clusterIP"] = json!("10.96.0.7");
            after["spec"]["clusterIPs"] = json!(["10.96.0.7"]);
        }
        if before.as_ref() != Some(&after) {
            self.version += 1;
            after["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.objects.insert(path.to_owned(), after.clone());
        }
        (200, after)
    }
}

/// The text of `query` that says who writes.
fn manager(query: &str) -> &str {
    query.split('&').find_map(|pair| pair.strip_prefix("fieldManager=")).unwrap_or_default()
}

/// The fields of a status, and its conditions, each under a name of its own.
fn fields(status: &Value) -> Vec<(String, Value)> {
    let of_status = status.as_object().into_iter().flatten().filter(|(field, _)| *field != "conditions");
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let conditions = conditions.map(|one| (format!("condition {}", one["type"]), one.clone()));
    of_status.map(|(field, value)| (field.clone(), value.clone())).chain(conditions).collect()
}

/// The paths of this namespace are `kind` or `kind/name`; others are lists of all namespaces.
fn is_list(path: &str) -> bool {
    !path.contains('/') || path.starts_with("/api")
}

fn failure(code: u16) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "Refused" };
    let status = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": format!("refused with {code}"), "reason": reason, "code": code});
    (code, status)
}
