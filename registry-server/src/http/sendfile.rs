//! Files that go from the page cache to a plain TCP connection without passing through this process.
//!
//! hyper never hands over the socket, so a body of this module gives it *markers* instead of content: slices of a
//! static that nobody reads, as long as the stretch of the file that they stand for. hyper passes them on uncopied, in
//! their order, to [`FileStream`], which knows them by their address and has the system send the stretch in their place.
//! Back-pressure, keep-alive and timeouts stay hyper's. Whatever would send a marker as if it were content breaks the
//! connection: see [`Segments::locate`]. Why so: docs/decisions/0010.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::io::ReadWriteFlags;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::types::ByteRange;

/// The most bytes of a file that are sent in one turn: two fast pulls must not starve small requests.
const SEGMENT_SIZE: usize = 1024 * 1024;

/// From which size on a stretch of a file is sent this way. Below, a copy costs less than a call more.
pub(super) const MIN_SIZE: u64 = 32 * 1024;

/// Markers of consecutive segments begin at this many different places.
const PLACES: usize = 64;

/// How many bytes are read in one call to have them in the page cache.
const WARMING_SIZE: usize = 128 * 1024;

/// What markers are slices of.
static MARKERS: [u8; SEGMENT_SIZE + PLACES] = [0; SEGMENT_SIZE + PLACES];

/// A connection that sends files by itself.
#[derive(Debug)]
pub(super) struct FileStream {
    stream: TcpStream,
    segments: Segments,
}

/// What a connection is to send in place of the markers that come next, in their order. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Segments(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    pending: VecDeque<Segment>,
    /// How many segments there were so far.
    count: usize,
}

/// A stretch of a file that is on its way.
#[derive(Debug)]
struct Segment {
    file: Arc<File>,
    offset: u64,
    /// What of the marker is left, and thereby of the stretch.
    marker: &'static [u8],
}

/// A body whose content is a stretch of a file.
#[derive(Debug)]
pub(super) struct FileBody {
    segments: Segments,
    file: Arc<File>,
    offset: u64,
    remaining: u64,
    /// Whether it is the turn of others.
    pauses: bool,
    /// A read on the blocking pool that brings the next segment into the page cache.
    warming: Option<JoinHandle<io::Result<()>>>,
}

impl FileStream {
    /// Wraps a connection that nothing has been written to.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, segments: Segments::default() }
    }

    /// Where bodies announce what this connection is to send.
    pub(super) fn segments(&self) -> Segments {
        self.segments.clone()
    }

    /// Sends what comes before the next marker, or what the marker stands for.
    fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.segments.locate(slices)? {
            None => self.stream.try_write_vectored(slices),
            Some(0) => self.stream.try_io(Interest::WRITABLE, || self.segments.send_first(&self.stream)),
            Some(position) => self.stream.try_io(Interest::WRITABLE, || {
                // The head of an answer shares its packet with the content that follows at once.
                let before = &slices[..position];
                let control = &mut SendAncillaryBuffer::default();
                Ok(rustix::net::sendmsg(
                    &self.stream,
                    before,
                    control,
                    SendFlags::MORE | SendFlags::NOSIGNAL,
                )?)
            }),
        }
    }
}

impl AsyncRead for FileStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for FileStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match self.send(slices) {
                Err(error) if is_transient(&error) => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is kept back here.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Segments {
    /// Announces a stretch of a file and gives the marker that stands for it.
    fn announce(&self, file: &Arc<File>, offset: u64, length: usize) -> Bytes {
        let mut queue = self.lock();
        let place = queue.count % PLACES;
        queue.count += 1;
        let marker = &MARKERS[place..place + length];
        queue.pending.push_back(Segment { file: Arc::clone(file), offset, marker });
        Bytes::from_static(marker)
    }

    /// Which of the slices is the marker that comes next; `None` when none is due.
    ///
    /// # Errors
    /// When a marker is due but is not there as it was given out: then somebody has copied, cut, dropped or moved it,
    /// and what would be sent is not the content.
    fn locate(&self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        let queue = self.lock();
        let Some(segment) = queue.pending.front() else { return Ok(None) };
        // The same address and the same length, whatever the bytes.
        let is_due = |slice: &[u8]| std::ptr::eq(slice, segment.marker);
        let found = slices.iter().position(|slice| is_due(slice));
        found
            .map(Some)
            .ok_or_else(|| io::Error::other("a stretch of a file has lost its place in the answer"))
    }

    /// Sends the first stretch as far as the connection takes it.
    fn send_first(&self, stream: &TcpStream) -> io::Result<usize> {
        let mut queue = self.lock();
        let Some(segment) = queue.pending.front_mut() else { return Ok(0) };
        let mut offset = segment.offset;
        let sent = rustix::fs::sendfile(stream, &segment.file, Some(&mut offset), segment.marker.len())?;
        if sent == 0 {
            // The length was promised in a header: the connection must break rather than the content end early.
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "stored content is shorter than its size",
            ));
        }
        segment.offset = offset;
        segment.marker = &segment.marker[sent..];
        if segment.marker.is_empty() {
            queue.pending.pop_front();
        }
        Ok(sent)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The body and the connection are polled by one task: nobody ever waits here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileBody {
    /// The given range of the file, to be sent by the connection that `segments` belongs to.
    pub(super) fn new(segments: Segments, file: Arc<File>, range: ByteRange) -> Self {
        let (offset, remaining) = (range.start, range.length);
        Self { segments, file, offset, remaining, pauses: false, warming: None }
    }

    /// How many bytes have not been announced yet.
    pub(super) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The next marker.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        if self.pauses {
            self.pauses = false;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = usize::try_from(self.remaining).unwrap_or(SEGMENT_SIZE).min(SEGMENT_SIZE);
        if let Err(error) = ready!(self.poll_warm(context, length)) {
            return Poll::Ready(Some(Err(error)));
        }
        let marker = self.segments.announce(&self.file, self.offset, length);
        self.offset += length as u64;
        self.remaining -= length as u64;
        self.pauses = true;
        Poll::Ready(Some(Ok(marker)))
    }

    /// Waits until the next bytes are in the page cache. Sending them would block this thread until they are, and with it
    /// all who wait for their turn.
    fn poll_warm(&mut self, context: &mut Context<'_>, length: usize) -> Poll<io::Result<()>> {
        if self.warming.is_none() {
            if is_cached(&self.file, self.offset, length) {
                return Poll::Ready(Ok(()));
            }
            let (file, offset) = (Arc::clone(&self.file), self.offset);
            self.warming = Some(tokio::task::spawn_blocking(move || warm(&file, offset, length)));
        }
        let Some(warming) = &mut self.warming else { return Poll::Ready(Ok(())) };
        let warmed = ready!(Pin::new(warming).poll(context));
        self.warming = None;
        Poll::Ready(warmed.unwrap_or_else(|error| Err(io::Error::other(error))))
    }
}

/// Whether a stretch of a file can be read without waiting for a disk, as far as three looks tell.
fn is_cached(file: &File, offset: u64, length: usize) -> bool {
    let last = length.saturating_sub(1) as u64;
    [0, last / 2, last].iter().all(|distance| {
        let byte = &mut [0];
        let slices = &mut [IoSliceMut::new(byte)];
        rustix::io::preadv2(file, slices, offset + distance, ReadWriteFlags::NOWAIT).is_ok()
    })
}

/// Reads a stretch of a file so that it is in the page cache. That the file is too short shows when it is sent.
fn warm(file: &File, offset: u64, length: usize) -> io::Result<()> {
    let mut buffer = vec![0; WARMING_SIZE.min(length)];
    let end = offset + length as u64;
    let mut position = offset;
    while position < end {
        match file.read_at(&mut buffer, position)? {
            0 => break,
            read => position += read as u64,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Write as _;

    use futures::future::poll_fn;
    use http::{Request, Response};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::http::body::Body;
    use crate::storage::Source;

    const HEAD: &[u8] = b"head";

    /// What becomes of the markers of two stretches.
    type Tampering = fn(&Bytes, &Bytes) -> Vec<Bytes>;

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|number| u8::try_from(1 + number % 251).unwrap()).collect()
    }

    fn file(content: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Arc::new(file)
    }

    /// The two ends of a connection.
    async fn connection() -> (FileStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, client) = tokio::join!(listener.accept(), client);
        (FileStream::new(accepted.unwrap().0), client.unwrap())
    }

    async fn write(stream: &mut FileStream, slices: &[&[u8]]) -> io::Result<usize> {
        let slices: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        poll_fn(|context| Pin::new(&mut *stream).poll_write_vectored(context, &slices)).await
    }

    /// What the client gets after the server's end is closed.
    async fn received(stream: FileStream, mut client: TcpStream) -> Vec<u8> {
        drop(stream);
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        received
    }

    #[tokio::test]
    async fn a_stretch_of_the_file_is_sent_where_its_marker_stands() {
        let (mut stream, client) = connection().await;
        let content = content(1000);
        let first = stream.segments().announce(&file(&content), 10, 300);
        let second = stream.segments().announce(&file(&content), 700, 300);
        assert_eq!(
            write(&mut stream, &[HEAD, &first, &second]).await.unwrap(),
            HEAD.len(),
            "what comes before"
        );
        assert_eq!(write(&mut stream, &[&first, &second]).await.unwrap(), 300);
        assert_eq!(write(&mut stream, &[&second]).await.unwrap(), 300);
        assert_eq!(write(&mut stream, &[HEAD, HEAD]).await.unwrap(), 2 * HEAD.len(), "what comes after");
        let expected = [HEAD, &content[10..310], &content[700..], HEAD, HEAD].concat();
        assert!(received(stream, client).await == expected);
    }

    #[tokio::test]
    async fn a_marker_that_is_not_as_it_was_given_out_breaks_the_connection() {
        let content = file(&content(1000));
        let rows: [(&str, Tampering); 6] = [
            ("dropped", |_, _| vec![]),
            ("copied", |first, _| vec![first.to_vec().into()]),
            ("cut at its end", |first, _| vec![first.slice(..299)]),
            ("cut at its beginning", |first, _| vec![first.slice(1..)]),
            ("overtaken", |_, second| vec![second.clone()]),
            ("copied behind others into one", |first, _| vec![[HEAD, first].concat().into()]),
        ];
        for (what, tamper) in rows {
            let (mut stream, client) = connection().await;
            let first = stream.segments().announce(&content, 0, 300);
            let second = stream.segments().announce(&content, 300, 300);
            let slices = [vec![Bytes::from_static(HEAD)], tamper(&first, &second)].concat();
            let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
            assert!(write(&mut stream, &slices).await.is_err(), "{what}");
            assert!(stream.write(HEAD).await.is_err(), "{what}");
            assert!(received(stream, client).await.is_empty(), "{what}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_breaks_the_connection() {
        let (mut stream, client) = connection().await;
        let content = content(200);
        let marker = stream.segments().announce(&file(&content), 0, 300);
        assert_eq!(write(&mut stream, &[&marker]).await.unwrap(), 200);
        let error = write(&mut stream, &[&marker[200..]]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(received(stream, client).await == content);
    }

    #[tokio::test]
    async fn others_have_their_turn_after_each_segment() {
        let length = 2 * SEGMENT_SIZE + 5;
        let range = ByteRange { start: 3, length: length as u64 };
        let mut body = FileBody::new(Segments::default(), file(&content(length + 3)), range);
        let (mut lengths, mut pauses) = (Vec::new(), 0);
        poll_fn(|context| {
            match body.poll_next(context) {
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Ready(Some(marker)) => lengths.push(marker.unwrap().len()),
                Poll::Pending => pauses += 1,
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        assert_eq!(lengths, [SEGMENT_SIZE, SEGMENT_SIZE, 5]);
        assert!(pauses >= 2, "{pauses}");
    }

    /// hyper copies what bodies give it when it is set up in either of these ways.
    #[tokio::test]
    async fn an_http_library_that_copies_bodies_breaks_the_connection() {
        let rows = [
            (http1::Builder::new(), true),
            (http1::Builder::new().pipeline_flush(true).clone(), false),
            (http1::Builder::new().writev(false).clone(), false),
        ];
        let content = content(SEGMENT_SIZE + 77);
        for (protocol, is_sound) in rows {
            let (stream, mut client) = connection().await;
            let (segments, source) = (stream.segments(), Source::File(file(&content)));
            let service = service_fn(move |_: Request<Incoming>| {
                let range = ByteRange { start: 0, length: (SEGMENT_SIZE + 77) as u64 };
                let body = Body::content(source.clone(), range).sent_by(&segments);
                async move { Ok::<_, Infallible>(Response::new(body)) }
            });
            let serving = tokio::spawn(protocol.serve_connection(TokioIo::new(stream), service));
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            assert_eq!(serving.await.unwrap().is_ok(), is_sound);
            assert!(if is_sound { received.ends_with(&content) } else { received.is_empty() });
        }
    }

    #[tokio::test]
    async fn what_is_not_in_memory_is_brought_there() {
        let content = content(WARMING_SIZE + 9);
        let file = file(&content);
        file.sync_all().unwrap();
        // A filesystem in memory does not do it, and then there is nothing to wait for.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        warm(&file, 1, content.len() + 100).unwrap();
        let range = ByteRange { start: 1, length: (content.len() - 1) as u64 };
        let mut body = FileBody::new(Segments::default(), file, range);
        let marker = poll_fn(|context| body.poll_next(context)).await.unwrap().unwrap();
        assert_eq!((marker.len() as u64, body.remaining()), (range.length, 0));
    }
}
