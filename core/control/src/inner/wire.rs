//! Frames of the inner link: a length of four bytes (little-endian), then JSON:
//! `{"id":7,"version":1,"request":...}` or `{"id":7,"version":1,"reply":...}`. Descriptors come with
//! the frame's first byte.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of the messages.
pub const VERSION: u32 = 1;
/// The longest frame that the injector takes: it trusts neither secretsd nor its memory to it.
pub const MAX_FRAME: usize = 4 << 20;
/// The longest frame that the injector sends, and its peers take: all instances, say.
pub(super) const MAX_FRAME_OF_INJECTOR: usize = 256 << 20;
/// The most descriptors of one frame.
pub const MAX_DESCRIPTORS: usize = 16;

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
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut sent = 0;
    while sent < frame.len() {
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if sent == 0 && !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        let part = [IoSlice::new(&frame[sent..])];
        match rustix::net::sendmsg(stream, &part, &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(count) => sent += count,
            Err(rustix::io::Errno::INTR) => {}
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
    let mut got = 0;
    while got < header.len() {
        match receive_part(stream, &mut header[got..], &mut fds)? {
            0 if got == 0 => return Ok(None),
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
    let mut frame = Vec::new();
    while frame.len() < length {
        let from = frame.len();
        frame.resize(length.min(from + CHUNK), 0);
        (&*stream).read_exact(&mut frame[from..])?;
    }
    Ok(Some((frame, fds)))
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
