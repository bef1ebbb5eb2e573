//! What the chapters share: a server process, a client that controls every byte, content to push, the table
//! runner, and a reader of the tree on disk. Nothing here knows how the server is built inside.

pub(crate) mod client;
pub(crate) mod content;
pub(crate) mod conversation;
pub(crate) mod peer;
pub(crate) mod promises;
pub(crate) mod raw;
pub(crate) mod server;
pub(crate) mod tree;
