//! The listener for operators of the server: is it alive, is it ready, what does it count.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::body::Body;
use crate::config::StorageDriver;
use crate::metrics::Metrics;
use crate::registry::Registry;

/// A storage that answers this late counts as failed: a hung network volume never answers at all.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the server should get requests.
#[derive(Debug, Default)]
pub(super) struct Health {
    storage_ready: AtomicBool,
    draining: AtomicBool,
}

impl Health {
    /// Says that the server is about to stop, so that no new clients are sent here.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Checks the storage for as long as the server runs.
    pub(super) async fn watch_storage(&self, registry: &Registry, settings: &StorageDriver) -> Infallible {
        if !settings.enabled {
            self.storage_ready.store(true, Ordering::Relaxed);
            return std::future::pending().await;
        }
        let mut failures = 0;
        loop {
            let checked = tokio::time::timeout(CHECK_TIMEOUT, registry.check()).await;
            let error: Option<Box<dyn std::error::Error>> = match checked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.into()),
                Err(elapsed) => Some(elapsed.into()),
            };
            failures = if error.is_some() { failures + 1 } else { 0 };
            if let Some(error) = error {
                tracing::error!(error = &*error, failures, "the storage cannot be read and written");
            }
            // At the start one failure is enough: nobody relies on the server yet.
            let ready = failures == 0 || (self.storage_ready() && failures < settings.threshold.max(1));
            self.storage_ready.store(ready, Ordering::Relaxed);
            tokio::time::sleep(settings.interval.max(Duration::from_millis(100))).await;
        }
    }

    fn storage_ready(&self) -> bool {
        self.storage_ready.load(Ordering::Relaxed)
    }

    /// Why the server should get no requests, if so.
    fn unready(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Relaxed) {
            Some("draining: the server is about to stop\n")
        } else if self.storage_ready() {
            None
        } else {
            Some("storage: it cannot be read and written, see the log\n")
        }
    }
}

/// What the listener for operators answers from.
#[derive(Clone, Debug)]
pub(super) struct Operations {
    /// Whether the server should get requests.
    pub(super) health: Arc<Health>,
    /// The metrics, and the path under which they are served; `None` when they are not.
    pub(super) metrics: Option<(String, Arc<Metrics>)>,
}

impl Operations {
    /// Answers one request. `/debug/health` is where CNCF distribution has its health.
    pub(super) fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
        }
        match (request.uri().path(), &self.metrics) {
            ("/livez", _) => text(StatusCode::OK, "ok\n"),
            ("/readyz" | "/debug/health", _) => match self.health.unready() {
                None => text(StatusCode::OK, "ok\n"),
                Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason),
            },
            (path, Some((metrics_path, metrics))) if path == metrics_path => render(metrics),
            _ => text(StatusCode::NOT_FOUND, "try /livez, /readyz or, when it is on, /metrics\n"),
        }
    }
}

fn render(metrics: &Metrics) -> Response<Body> {
    let Ok(rendered) = metrics.render() else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n");
    };
    let mut response = Response::new(Body::from(rendered));
    let openmetrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, openmetrics);
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Filesystem, Memory};

    const OFTEN: StorageDriver =
        StorageDriver { enabled: true, interval: Duration::from_millis(100), threshold: 2 };

    async fn becomes(health: &Health, ready: bool) {
        let reached = async {
            while health.unready().is_none() != ready {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("readiness changes");
    }

    #[tokio::test]
    async fn readiness_follows_the_storage() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        let registry = Registry::new(Arc::new(Filesystem::open(&root).unwrap()));
        let health = Health::default();
        assert!(health.unready().is_some(), "nothing was checked yet");
        let test = async {
            becomes(&health, true).await;
            std::fs::remove_dir_all(&root).unwrap();
            becomes(&health, false).await;
            std::fs::create_dir_all(root.join("windlass/staging")).unwrap();
            becomes(&health, true).await;
        };
        tokio::select! {
            () = test => {}
            _ = health.watch_storage(&registry, &OFTEN) => {}
        }
    }

    #[tokio::test]
    async fn a_draining_server_is_not_ready() {
        let health = Health::default();
        let registry = Registry::new(Arc::new(Memory::default()));
        tokio::select! {
            () = becomes(&health, true) => {}
            _ = health.watch_storage(&registry, &OFTEN) => {}
        }
        health.drain();
        assert!(health.unready().unwrap().contains("draining"));
    }
}
