//! Bodies of answers: nothing, some bytes, or a stretch of stored content.
//!
//! Handlers hand over an open file and a range, never a stream of bytes, so that a connection that can send files
//! without copying them does so, see [`Body::sent_by`]; others read as they send.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use rustix::io::ReadWriteFlags;

use super::record::Record;
use super::sendfile::{self, FileBody, Segments};
use crate::storage::Source;
use crate::types::ByteRange;

/// How many bytes are read from a file for one frame: large enough that calls cost little, small enough that a
/// hundred pulls stay within tens of megabytes.
pub(super) const FRAME_SIZE: usize = 128 * 1024;

/// The body of an answer.
pub(super) struct Body {
    kind: Kind,
    /// Written when the body has been sent or dropped.
    record: Option<Record>,
}

enum Kind {
    Bytes(Bytes),
    Content(ContentBody),
    /// A stretch of a file that the connection sends by itself.
    File(FileBody),
    /// One after the other.
    Sequence(VecDeque<Kind>),
}

/// A stretch of stored content that is read as it is sent.
struct ContentBody {
    source: Source,
    offset: u64,
    remaining: u64,
    /// The last frame, whose allocation is used again once it has been sent: a new one would be filled with zeros first.
    last: Bytes,
    /// A read on the blocking pool, when the bytes were not in the page cache.
    pending: Option<Pin<Box<dyn Future<Output = io::Result<BytesMut>> + Send>>>,
}

impl Body {
    /// No body.
    pub(super) fn empty() -> Self {
        Self::from(Bytes::new())
    }

    /// The given range of stored content.
    pub(super) fn content(source: Source, range: ByteRange) -> Self {
        let content = ContentBody {
            source,
            offset: range.start,
            remaining: range.length,
            last: Bytes::new(),
            pending: None,
        };
        Self { kind: Kind::Content(content), record: None }
    }

    /// One body of several, in their order.
    pub(super) fn sequence(bodies: impl IntoIterator<Item = Self>) -> Self {
        let kinds = bodies.into_iter().map(|body| body.kind);
        Self { kind: Kind::Sequence(kinds.collect()), record: None }
    }

    /// Leaves it to the connection to send a stretch of a file that is long enough for that.
    pub(super) fn sent_by(mut self, connection: &Segments) -> Self {
        if let Kind::Content(ContentBody { source: Source::File(file), offset, remaining, .. }) = &self.kind
            && *remaining > sendfile::MIN_SIZE
        {
            let range = ByteRange { start: *offset, length: *remaining };
            self.kind = Kind::File(FileBody::new(connection.clone(), Arc::clone(file), range));
        }
        self
    }

    /// Hands over the record of the request, which is written when the body has been sent.
    pub(super) fn with_record(mut self, record: Record) -> Self {
        self.record = Some(record);
        self
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self { kind: Kind::Bytes(bytes.into()), record: None }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let next = ready!(this.kind.poll_next(context));
        if let (Some(Ok(bytes)), Some(record)) = (&next, &mut this.record) {
            record.sent += bytes.len() as u64;
        }
        Poll::Ready(next.map(|result| result.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.kind.remaining() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.kind.remaining())
    }
}

impl Kind {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match self {
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Self::Content(stored) => stored.poll_read(context),
            Self::File(file) => file.poll_next(context),
            Self::Sequence(kinds) => {
                while let Some(first) = kinds.front_mut() {
                    if let Some(next) = ready!(first.poll_next(context)) {
                        return Poll::Ready(Some(next));
                    }
                    kinds.pop_front();
                }
                Poll::Ready(None)
            }
        }
    }

    /// How many bytes are still to be sent.
    fn remaining(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Content(content) => content.remaining,
            Self::File(file) => file.remaining(),
            Self::Sequence(kinds) => kinds.iter().map(Self::remaining).sum(),
        }
    }
}

impl ContentBody {
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        if self.pending.is_none() {
            let mut buffer = self.buffer();
            if let Some(read) = read_cached(&self.source, &mut buffer, self.offset) {
                return Poll::Ready(Some(read.and_then(|length| {
                    buffer.truncate(length);
                    self.take(buffer)
                })));
            }
            self.pending = Some(self.read_blocking(buffer));
        }
        let Some(pending) = &mut self.pending else { return Poll::Pending };
        let read = ready!(pending.as_mut().poll(context));
        self.pending = None;
        Poll::Ready(Some(read.and_then(|buffer| self.take(buffer))))
    }

    /// Room for the next frame, with whatever in it.
    fn buffer(&mut self) -> BytesMut {
        let wanted = FRAME_SIZE.min(usize::try_from(self.remaining).unwrap_or(FRAME_SIZE));
        let mut buffer = std::mem::take(&mut self.last).try_into_mut().unwrap_or_default();
        buffer.resize(wanted, 0);
        buffer
    }

    /// Hands out what was read.
    fn take(&mut self, read: BytesMut) -> io::Result<Bytes> {
        if read.is_empty() {
            // The length was promised in a header: the connection must break rather than the content end early.
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "stored content is shorter than its size",
            ));
        }
        self.offset += read.len() as u64;
        self.remaining -= read.len() as u64;
        self.last = read.freeze();
        Ok(self.last.clone())
    }

    fn read_blocking(
        &self,
        mut buffer: BytesMut,
    ) -> Pin<Box<dyn Future<Output = io::Result<BytesMut>> + Send>> {
        let (source, offset) = (self.source.clone(), self.offset);
        let reading = tokio::task::spawn_blocking(move || {
            let length = source.read_at(&mut buffer, offset)?;
            buffer.truncate(length);
            Ok(buffer)
        });
        Box::pin(async move { reading.await.unwrap_or_else(|error| Err(io::Error::other(error))) })
    }
}

/// Reads what can be had without waiting for a disk; `None` when the blocking pool has to do it.
fn read_cached(source: &Source, buffer: &mut [u8], offset: u64) -> Option<io::Result<usize>> {
    match source {
        Source::Memory(_) => Some(source.read_at(buffer, offset)),
        Source::File(file) => {
            let slices = &mut [io::IoSliceMut::new(buffer)];
            rustix::io::preadv2(file.as_fd(), slices, offset, ReadWriteFlags::NOWAIT).ok().map(Ok)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use http_body_util::BodyExt;

    use super::*;

    fn file(content: &[u8]) -> Source {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Source::File(Arc::new(file))
    }

    #[tokio::test]
    async fn a_range_of_content_is_sent_to_the_byte() {
        let content: Vec<u8> = (0..3 * FRAME_SIZE + 17).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let ranges = [(0, content.len()), (5, 1), (FRAME_SIZE - 1, FRAME_SIZE + 2), (content.len() - 1, 1)];
        for source in [file(&content), Source::Memory(content.clone().into())] {
            for (start, length) in ranges {
                let range = ByteRange { start: start as u64, length: length as u64 };
                let body = Body::content(source.clone(), range);
                assert_eq!(http_body::Body::size_hint(&body).exact(), Some(length as u64));
                let sent = body.collect().await.unwrap().to_bytes();
                assert!(sent == content[start..start + length], "{start}+{length}");
            }
        }
    }

    #[tokio::test]
    async fn the_allocation_of_a_frame_that_was_sent_is_used_again() {
        let length = 3 * FRAME_SIZE;
        let range = ByteRange { start: 0, length: length as u64 };
        let mut body = Body::content(file(&vec![1; length]), range);
        let mut places = Vec::new();
        while let Some(frame) = body.frame().await {
            places.push(frame.unwrap().data_ref().unwrap().as_ptr());
        }
        assert_eq!(places, [places[0]; 3]);
        let kept = Body::content(file(&vec![1; length]), range).collect().await.unwrap().to_bytes();
        assert!(kept == vec![1; length], "but not while it is still to be sent");
    }

    #[tokio::test]
    async fn a_sequence_is_all_of_its_parts() {
        let range = |start, length| ByteRange { start, length };
        let source = file(b"0123456789");
        let bodies =
            [Body::from("a"), Body::content(source.clone(), range(7, 3)), Body::empty(), Body::from("b")];
        let body = Body::sequence(bodies);
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(5));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "a789b");
        let cut_off = Body::sequence([Body::content(source, range(7, 9)), Body::from("b")]);
        assert!(cut_off.collect().await.is_err());
    }

    #[tokio::test]
    async fn content_that_ends_early_breaks_the_body() {
        let body = Body::content(file(b"short"), ByteRange { start: 0, length: 10 });
        let error = body.collect().await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn an_empty_body_has_ended() {
        let body = Body::empty();
        assert!(http_body::Body::is_end_stream(&body));
        assert!(body.collect().await.unwrap().to_bytes().is_empty());
    }
}
