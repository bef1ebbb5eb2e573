//! What those rely on who run the server, beyond the specification.

mod auth;
mod command_line;
mod health;
mod logs;
mod shutdown;
mod tls;

use std::time::{Duration, Instant};

use crate::harness::server::SOON;

/// Waits for what the server does in the background; fails when it never comes true.
async fn eventually<F: Future<Output = bool>>(says: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {says}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
