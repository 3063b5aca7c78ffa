//! Frames of the inner link: a length of four bytes (little-endian), then JSON:
//! `{"id":7,"version":2,"request":...}` or `{"id":7,"version":2,"reply":...}`. Descriptors come with
//! the frame's first byte.
//!
//! Between two frames a peer may be silent for ever. Once one has begun, the rest of it comes in time,
//! and so does the room for one that goes out: half a frame holds no thread.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of the messages.
pub const VERSION: u32 = 2;
/// The longest frame that the injector takes: it trusts neither secretsd nor its memory to it.
pub const MAX_FRAME: usize = 4 << 20;
/// The longest frame that the injector sends, and its peers take: all instances, say.
pub(super) const MAX_FRAME_OF_INJECTOR: usize = 256 << 20;
/// The most descriptors of one frame.
pub const MAX_DESCRIPTORS: usize = 16;

/// How long a frame may take, and how much longer for each [`PART`] of it.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
const PATIENCE_OF_A_PART: Duration = Duration::from_secs(1);
const PART: usize = 16 << 20;

/// How much is read at once: room is made for what came, and not for what a length promises.
const CHUNK: usize = 64 << 10;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Envelope<'a> {
    pub id: u64,
    pub version: u32,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub request: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<&'a RawValue>,
}

/// The bytes of a frame.
pub(super) fn encode(envelope: &Envelope<'_>, limit: usize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, envelope)?;
    let length = frame.len() - 4;
    let too_large = || io::Error::new(io::ErrorKind::InvalidInput, "a message that is too large");
    if length > limit {
        return Err(too_large());
    }
    let length = u32::try_from(length).map_err(|_| too_large())?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// Sends a frame whole, the descriptors with its first byte.
pub(super) fn send(stream: &UnixStream, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > MAX_DESCRIPTORS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors",
        ));
    }
    let until = deadline(frame.len());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut sent = 0;
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    while sent < frame.len() {
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if sent == 0 && !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        let part = [IoSlice::new(&frame[sent..])];
        match rustix::net::sendmsg(stream, &part, &mut ancillary, flags) {
            Ok(count) => sent += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => wait(stream, PollFlags::OUT, until)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Receives a frame with its descriptors; `None` if the peer has hung up between two.
pub(super) fn receive(
    stream: &UnixStream,
    limit: usize,
) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut header = [0; 4];
    let mut fds = Vec::new();
    let mut got = receive_part(stream, &mut header, &mut fds)?;
    if got == 0 {
        return Ok(None);
    }
    let begun = Instant::now();
    while got < header.len() {
        wait(stream, PollFlags::IN, begun + PATIENCE)?;
        match receive_part(stream, &mut header[got..], &mut fds)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => got += count,
        }
    }
    let length = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message that is too large",
        ));
    }
    // Never past this frame: what comes with the next one's first byte must not get lost here.
    let until = deadline(length);
    let mut frame = Vec::new();
    while frame.len() < length {
        let from = frame.len();
        frame.resize(length.min(from + CHUNK), 0);
        wait(stream, PollFlags::IN, until)?;
        match rustix::io::read(stream, &mut frame[from..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => frame.truncate(from + count),
            Err(rustix::io::Errno::INTR) => frame.truncate(from),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(Some((frame, fds)))
}

/// Until when a frame that begins now is to be whole.
fn deadline(length: usize) -> Instant {
    let parts = u32::try_from(length / PART).unwrap_or(u32::MAX);
    Instant::now() + PATIENCE + PATIENCE_OF_A_PART * parts
}

/// Waits until the peer has sent or taken something.
fn wait(stream: &UnixStream, what: PollFlags, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(stream, what)], Some(&left)) {
        Ok(0) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "half a message, and no more of it",
        )),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn receive_part(stream: &UnixStream, part: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(part)];
        match rustix::net::recvmsg(stream, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) || fds.len() > MAX_DESCRIPTORS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "too many descriptors",
        ));
    }
    Ok(received.bytes)
}
