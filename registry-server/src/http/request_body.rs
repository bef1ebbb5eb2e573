//! The body of a request, and what becomes of it when a handler answers before its end.
//!
//! Bytes that nobody reads would make the connection break: without a word on a connection that the client means
//! to use again, and before the client has seen the answer when it is still sending. What is left over is
//! therefore read and thrown away while the answer is on its way.
//!
//! A client that sends nothing for too long is given up, so that the upload that it writes to is free for others.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::EXPECT;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::Sleep;

/// How many bytes are thrown away at most: more than any chunk has, less than would hurt.
const DISCARD_LIMIT: u64 = 64 * 1024 * 1024;

/// How long that may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a body has no end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The connection broke, or what came over it is no HTTP.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// The client took too much time.
    #[error("nothing more of it came for {} seconds", .0.as_secs_f32())]
    TooSlow(Duration),
}

/// A request's body.
#[derive(Debug)]
pub(super) struct RequestBody {
    /// Taken on drop only.
    incoming: Option<Incoming>,
    /// Whether the client sends the body without having been asked to (RFC 9110 §10.1.1).
    unasked: bool,
    /// How long the client may send nothing.
    timeout: Duration,
    /// When that is over; set while the client is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    /// The body of the request with the given headers.
    pub(super) fn new(incoming: Incoming, headers: &HeaderMap, timeout: Duration) -> Self {
        let unasked = !headers.contains_key(EXPECT);
        Self { incoming: Some(incoming), unasked, timeout, deadline: None }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Self { incoming, unasked, timeout, deadline } = self.get_mut();
        let Some(body) = incoming else { return Poll::Ready(None) };
        // Once something is read the client has been asked.
        *unasked = true;
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            *deadline = None;
            return Poll::Ready(frame.map(|frame| Ok(frame?)));
        }
        let over = deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(*timeout)));
        ready!(over.as_mut().poll(context));
        // Nothing of it is waited for any more, not even in order to throw it away.
        *incoming = None;
        Poll::Ready(Some(Err(Broken::TooSlow(*timeout))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let rest = self.incoming.take().filter(|incoming| self.unasked && !incoming.is_end_stream());
        if let (Some(rest), Ok(runtime)) = (rest, Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(DISCARD_TIMEOUT, discard(rest)));
        }
    }
}

/// Reads up to the end or the limit.
async fn discard(mut body: Incoming) {
    let mut discarded = 0;
    while discarded < DISCARD_LIMIT {
        let Some(Ok(frame)) = body.frame().await else { return };
        discarded += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}
