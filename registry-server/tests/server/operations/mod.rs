//! What those rely on who run the server, beyond the specification.

mod access;
mod auth;
mod health;
mod logs;
mod prefix;
mod pull_secrets;
mod pulls;
mod shutdown;
mod tls;
mod tokens;
mod upload_purging;
