//! The framed channel between agent and proxy, used by both ends.
//!
//! ```text
//! Link<Out, In> ──split──▶ Sender<Out>    u32 length │ u32 descriptors │ JSON
//!                     └──▶ Receiver<In>   descriptors ride on the frame's first byte (SCM_RIGHTS)
//! ```
//!
//! The kernel keeps the descriptors in the order of the bytes, so the receiver queues them as they arrive and every
//! frame takes as many from the front as its header says.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use teal_model::wire::{MAX_DESCRIPTORS, MAX_FRAME};
use tokio::io::Interest;
use tokio::net::UnixStream;

const HEADER: usize = 8;
const READ_CHUNK: usize = 64 * 1024;
/// The kernel's own limit for one message (SCM_MAX_FD).
const KERNEL_MAX_DESCRIPTORS: usize = 253;

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the socket between agent and proxy failed")]
    Io(#[from] io::Error),
    #[error("the other side closed the socket between agent and proxy")]
    Closed,
    #[error("a frame of {0} bytes is longer than {MAX_FRAME}")]
    TooLong(usize),
    #[error("a frame with {0} descriptors has more than {MAX_DESCRIPTORS}")]
    TooManyDescriptors(usize),
    #[error("a frame announced {announced} descriptors and {arrived} arrived")]
    MissingDescriptors { announced: usize, arrived: usize },
    #[error("the kernel dropped descriptors of a message (is the limit of open files reached?)")]
    Truncated,
    #[error("a message is not understood")]
    Json(#[from] serde_json::Error),
}

/// One end of the channel.
#[derive(Debug)]
pub struct Link<Out, In> {
    sender: Sender<Out>,
    receiver: Receiver<In>,
}

impl<Out: Serialize, In: DeserializeOwned> Link<Out, In> {
    pub fn new(stream: UnixStream) -> Self {
        let stream = Arc::new(stream);
        Self {
            sender: Sender { stream: stream.clone(), message: PhantomData },
            receiver: Receiver { stream, bytes: Vec::new(), descriptors: VecDeque::new(), message: PhantomData },
        }
    }

    /// See [`Sender::send`].
    pub async fn send(&mut self, message: &Out, descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        self.sender.send(message, descriptors).await
    }

    /// See [`Receiver::recv`].
    pub async fn recv(&mut self) -> Result<(In, Vec<OwnedFd>), LinkError> {
        self.receiver.recv().await
    }

    /// The two directions, for two tasks.
    pub fn split(self) -> (Sender<Out>, Receiver<In>) {
        (self.sender, self.receiver)
    }
}

/// The sending half.
#[derive(Debug)]
pub struct Sender<Out> {
    stream: Arc<UnixStream>,
    message: PhantomData<fn(Out)>,
}

impl<Out: Serialize> Sender<Out> {
    /// Sends one message and waits until the kernel has all of it. Not cancel-safe: a call that is dropped half-way
    /// leaves half a frame behind, and the link must be dropped with it.
    pub async fn send(&mut self, message: &Out, descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(LinkError::TooManyDescriptors(descriptors.len()));
        }
        let mut frame = vec![0; HEADER];
        serde_json::to_writer(&mut frame, message)?;
        let length = frame.len() - HEADER;
        if length > MAX_FRAME {
            return Err(LinkError::TooLong(length));
        }
        // Both fit: they were compared with constants far below 2^32.
        frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
        frame[4..HEADER].copy_from_slice(&(descriptors.len() as u32).to_le_bytes());

        let mut sent = 0;
        while sent < frame.len() {
            let riding = if sent == 0 { descriptors } else { &[] };
            sent +=
                self.stream.async_io(Interest::WRITABLE, || send_some(&self.stream, &frame[sent..], riding)).await?;
        }
        Ok(())
    }
}

fn send_some(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("no room for the descriptors"));
    }
    Ok(sendmsg(stream.as_fd(), &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver<In> {
    stream: Arc<UnixStream>,
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    message: PhantomData<fn() -> In>,
}

impl<In: DeserializeOwned> Receiver<In> {
    /// The next message and its descriptors, which are close-on-exec. Cancel-safe: what has arrived is kept.
    pub async fn recv(&mut self) -> Result<(In, Vec<OwnedFd>), LinkError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            let (bytes, descriptors) = (&mut self.bytes, &mut self.descriptors);
            let n = self.stream.async_io(Interest::READABLE, || receive_some(&self.stream, bytes, descriptors)).await?;
            if n == 0 {
                return Err(LinkError::Closed);
            }
        }
    }

    fn take(&mut self) -> Result<Option<(In, Vec<OwnedFd>)>, LinkError> {
        let word = |at: usize| Some(u32::from_le_bytes(self.bytes.get(at..at + 4)?.try_into().ok()?) as usize);
        let (Some(length), Some(announced)) = (word(0), word(4)) else { return Ok(None) };
        if length > MAX_FRAME {
            return Err(LinkError::TooLong(length));
        }
        if announced > MAX_DESCRIPTORS {
            return Err(LinkError::TooManyDescriptors(announced));
        }
        let Some(json) = self.bytes.get(HEADER..HEADER + length) else { return Ok(None) };
        let arrived = self.descriptors.len();
        if arrived < announced {
            return Err(LinkError::MissingDescriptors { announced, arrived });
        }
        let message = serde_json::from_slice(json)?;
        self.bytes.drain(..HEADER + length);
        Ok(Some((message, self.descriptors.drain(..announced).collect())))
    }
}

fn receive_some(stream: &UnixStream, bytes: &mut Vec<u8>, descriptors: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(KERNEL_MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let filled = bytes.len();
    bytes.resize(filled + READ_CHUNK, 0);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut bytes[filled..])], &mut control, flags);
    bytes.truncate(filled + received.as_ref().map_or(0, |message| message.bytes));
    let received = received?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(arrived) = message {
            descriptors.extend(arrived);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other(LinkError::Truncated));
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    type Text = Link<String, String>;

    fn pair() -> (Text, Text) {
        let (a, b) = UnixStream::pair().expect("a socket pair");
        (Link::new(a), Link::new(b))
    }

    #[tokio::test]
    async fn a_message_arrives_with_its_descriptors_and_no_others() {
        let (mut a, mut b) = pair();
        let (mut left, right) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
        a.send(&"none".into(), &[]).await.expect("sent");
        a.send(&"one".into(), &[right.as_fd()]).await.expect("sent");
        a.send(&"none again".into(), &[]).await.expect("sent");

        assert!(matches!(b.recv().await, Ok((text, fds)) if text == "none" && fds.is_empty()));
        let (text, fds) = b.recv().await.expect("the second message");
        assert_eq!((text.as_str(), fds.len()), ("one", 1));
        assert!(matches!(b.recv().await, Ok((text, fds)) if text == "none again" && fds.is_empty()));

        left.write_all(b"x").expect("written");
        let mut byte = [0];
        std::os::unix::net::UnixStream::from(fds.into_iter().next().expect("one")).read_exact(&mut byte).expect("read");
        assert_eq!(&byte, b"x");
    }

    #[tokio::test]
    async fn a_message_longer_than_the_socket_buffer_arrives_whole() {
        let (a, mut b) = pair();
        let long = "x".repeat(3 << 20);
        let (mut sender, _receiver) = a.split();
        let sent = long.clone();
        let sending = tokio::spawn(async move { sender.send(&sent, &[]).await });
        assert_eq!(b.recv().await.expect("received").0, long);
        sending.await.expect("joined").expect("sent");
    }

    #[tokio::test]
    async fn a_closed_end_is_told_apart_from_an_error() {
        let (a, mut b) = pair();
        drop(a);
        assert!(matches!(b.recv().await, Err(LinkError::Closed)));
    }

    #[tokio::test]
    async fn more_descriptors_than_a_frame_may_carry_are_refused() {
        let (mut a, _b) = pair();
        let file = std::fs::File::open("/dev/null").expect("opened");
        let many = vec![file.as_fd(); MAX_DESCRIPTORS + 1];
        assert!(matches!(a.send(&"x".into(), &many).await, Err(LinkError::TooManyDescriptors(_))));
        a.send(&"x".into(), &many[..MAX_DESCRIPTORS]).await.expect("as many as may be");
    }
}
