//! A stream from which hints are taken before the client sees them.
//!
//! The client turns whatever the server pushes into a tree of values, with an allocation for each text. Hints are nearly all
//! that comes over the connection of a subscription, and every node does this for every write of all others. So they are
//! taken out of the bytes here: a frame that says *message on this channel* goes to the sink, in one piece and without a
//! copy. All else (answers, confirmations, other pushes) reaches the client as it came. Of that only the length is
//! looked at; where even that is not understood, the client gets everything from there on, hints included.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Receives the payloads of messages. Must not block.
pub(crate) type HintSink = Arc<dyn Fn(Bytes) + Send + Sync>;

/// Room to read into.
const CHUNK: usize = 8 * 1024;
/// What a message begins with, on a channel and on one of a slot: three things, of which the first is its kind.
const MESSAGE: [&[u8]; 2] = [b">3\r\n$7\r\nmessage\r\n", b">3\r\n$8\r\nsmessage\r\n"];

/// A stream without its messages.
pub(crate) struct Tap<S> {
    stream: S,
    sink: Option<HintSink>,
    buffer: BytesMut,
    /// So many bytes at the front of the buffer are for the client.
    passing: usize,
    /// Something was not understood: all is for the client.
    blind: bool,
}

impl<S> Tap<S> {
    /// Without a sink all is for the client.
    pub(crate) fn new(stream: S, sink: Option<HintSink>) -> Self {
        Self { stream, blind: sink.is_none(), sink, buffer: BytesMut::new(), passing: 0 }
    }

    /// Takes the messages at the front of the buffer, up to something that is for the client.
    fn take(&mut self) {
        while self.passing == 0 && !self.buffer.is_empty() {
            match frame(&self.buffer) {
                Frame::Message { payload, end } => {
                    let message = self.buffer.split_to(end).freeze();
                    if let Some(sink) = &self.sink {
                        sink(message.slice(payload));
                    }
                }
                Frame::Other { end } => self.passing = end,
                Frame::Begun => return,
                Frame::Odd => (self.blind, self.passing) = (true, self.buffer.len()),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let tap = self.get_mut();
        loop {
            // Also what came in one piece with something for the client.
            tap.take();
            if tap.passing > 0 {
                let n = tap.passing.min(out.remaining());
                out.put_slice(&tap.buffer[..n]);
                tap.buffer.advance(n);
                tap.passing -= n;
                return Poll::Ready(Ok(()));
            }
            if tap.blind {
                return Pin::new(&mut tap.stream).poll_read(cx, out);
            }
            if tap.buffer.capacity() - tap.buffer.len() < CHUNK / 8 {
                // In the same place, if all that was taken is gone.
                tap.buffer.reserve(CHUNK);
            }
            if ready!(pin!(tap.stream.read_buf(&mut tap.buffer)).poll(cx))? == 0 {
                // What is left is no whole frame; the client knows what to say about that.
                (tap.blind, tap.passing) = (true, tap.buffer.len());
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// What bytes begin with.
#[derive(Debug, PartialEq, Eq)]
enum Frame {
    /// A message.
    Message { payload: Range<usize>, end: usize },
    /// Something else.
    Other { end: usize },
    /// Something of which the end has not come yet.
    Begun,
    /// Something that this does not know.
    Odd,
}

fn frame(bytes: &[u8]) -> Frame {
    if let Some(kind) = MESSAGE.iter().find(|kind| bytes.starts_with(kind)) {
        return message(bytes, kind.len());
    }
    // How many things are to come.
    let (mut wanted, mut at) = (1_usize, 0);
    while wanted > 0 {
        wanted -= 1;
        let Some(&kind) = bytes.get(at) else { return Frame::Begun };
        let Some((line, next)) = line(bytes, at + 1) else { return Frame::Begun };
        at = next;
        match (kind, number(line)) {
            (b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(', _) => {}
            // Nothing, in the words of the second version.
            (b'$' | b'*', _) if line == b"-1" => {}
            (b'$' | b'!' | b'=', Some(length)) => {
                at += length + 2;
                if at > bytes.len() {
                    return Frame::Begun;
                }
            }
            (b'*' | b'~' | b'>', Some(count)) => wanted += count,
            (b'%', Some(count)) => wanted += 2 * count,
            _ => return Frame::Odd,
        }
    }
    Frame::Other { end: at }
}

/// A message of which the kind is known: channel and payload follow.
fn message(bytes: &[u8], at: usize) -> Frame {
    let text = |at: usize| -> Result<(Range<usize>, usize), Frame> {
        match bytes.get(at) {
            None => return Err(Frame::Begun),
            Some(b'$') => {}
            Some(_) => return Err(Frame::Odd),
        }
        let (length, from) = line(bytes, at + 1).ok_or(Frame::Begun)?;
        let length = number(length).ok_or(Frame::Odd)?;
        let (to, end) = (from + length, from + length + 2);
        if end > bytes.len() { Err(Frame::Begun) } else { Ok((from..to, end)) }
    };
    let parts = text(at).and_then(|(_channel, next)| text(next));
    parts.map_or_else(|frame| frame, |(payload, end)| Frame::Message { payload, end })
}

/// The text up to the end of a line, and where the next begins.
fn line(bytes: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(from..)?;
    let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&rest[..length], from + length + 2))
}

/// A length, which no server lets grow so far that sums of them overflow.
fn number(digits: &[u8]) -> Option<usize> {
    const DIGITS_MAX: usize = 10;
    let all = !digits.is_empty() && digits.len() <= DIGITS_MAX && digits.iter().all(u8::is_ascii_digit);
    all.then(|| digits.iter().fold(0, |number, digit| 10 * number + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests;
