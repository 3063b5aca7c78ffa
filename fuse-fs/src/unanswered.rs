//! What the secretsd before us took from the kernel, and did not answer.
//!
//! The kernel is asked to send it again (FUSE_NOTIFY_RESEND). Linux before 6.9 cannot: there we answer
//! in place of the one that ended. What it had noted is answered as it would have been; all else gets
//! ESTALE, after which the kernel itself repeats a look-up, an open, and the read of a cached page, but
//! once: a call that is caught so by two kills shows the error. So does a read under direct I/O, or of a
//! folder, that was taken and not yet noted.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use fuser::{Errno, Filesystem};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags};

use crate::errno::Refusal;
use crate::handover::Beginning;
use crate::inflight::{Asking, Call, InFlight, Left, RESENT};
use crate::takeover::session_of_ours;

/// fuse_out_header of FUSE_NOTIFY_RESEND (linux/fuse.h): length 16, code 7, unique 0.
const RESEND: [u8; 16] = [16, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// The kernel numbers its requests in steps of this.
const STEP: u64 = 2;
/// How far above the highest noted number there may be some that were taken and not noted, and how
/// far below it some that nobody has answered.
const ABOVE: u64 = 256;
const BELOW: u64 = 20_000;
/// The kernel has room for at least a page of a folder.
const FOLDER_PART: u32 = 4096;
/// The kernel reads at most 256 pages at once.
const ANSWER: usize = 256 * 4096 + 4096;
/// For one answer: handlers take microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Settles what is unanswered; before anybody serves. `answer` answers what was noted, for kernels
/// that cannot send it again.
pub(crate) fn settle(
    device: &OwnedFd,
    in_flight: &InFlight,
    sweep: bool,
    answer: impl FnOnce(&[Left]) -> io::Result<()>,
) -> io::Result<()> {
    let mut left = in_flight.take_left();
    for one in left.extract_if(.., |one| one.is_deadly) {
        let Asking {
            unique, ino, call, ..
        } = one.asking;
        log::error!("secretsd ended again and again in {call:?} of {ino:?}: it gets an error");
        refuse(device, unique, Refusal::Crashes)?;
    }
    if !sweep && resend(device)? {
        return Ok(());
    }
    answer(&left)?;
    let top = (in_flight.highest() & !1) + ABOVE;
    let mut swept = 0;
    // 0 would be a notification.
    for unique in (top.saturating_sub(BELOW).max(STEP)..=top).step_by(STEP as usize) {
        swept += usize::from(refuse(device, unique, Refusal::Superseded)?);
    }
    log::info!(
        "requests of the secretsd before: {} answered, {swept} to be repeated by the kernel",
        left.len()
    );
    Ok(())
}

/// Asks the kernel to send again what was taken and not answered; false: it cannot (Linux before 6.9).
pub(crate) fn resend(device: &OwnedFd) -> io::Result<bool> {
    match rustix::io::write(device, &RESEND) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Answers what was noted, by the handlers that would have done it: of a session that takes us for
/// the kernel.
pub(crate) fn answer<F: Filesystem + Send + 'static>(
    file_system: F,
    device: &OwnedFd,
    begun: &Beginning,
    left: &[Left],
) -> io::Result<()> {
    let requests: Vec<_> = left.iter().filter_map(|one| message(&one.asking)).collect();
    if requests.is_empty() {
        return Ok(());
    }
    let (session, ours, _) = session_of_ours(file_system, begun, 1)?;
    set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE))?;
    // It ends with an error, when our end is closed.
    let serving = std::thread::Builder::new()
        .name("fuse-left".into())
        .spawn(move || session.run())?;
    let mut answered = vec![0; ANSWER];
    for request in requests {
        rustix::net::send(&ours, &request, SendFlags::NOSIGNAL)?;
        let length = match rustix::net::recv(&ours, &mut answered[..], RecvFlags::empty()) {
            Ok((length, _)) => length,
            // It is swept with the rest; whoever stalls its handler must not stall us.
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let Some(message) = answered.get_mut(..length).filter(|all| all.len() >= 16) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        // The highest byte of the number has the mark that we made.
        let mut unique = [0; 8];
        unique.copy_from_slice(&message[8..16]);
        let unique = u64::from_ne_bytes(unique) & !RESENT;
        message[8..16].copy_from_slice(&unique.to_ne_bytes());
        reply(device, message)?;
    }
    drop(ours);
    let _ = serving.join();
    Ok(())
}

/// The request as the kernel sent it (linux/fuse.h), marked as sent again. `None` for what the kernel
/// repeats by itself, or must not be done twice.
fn message(asking: &Asking) -> Option<Vec<u8>> {
    let word = |word: u32| word.to_ne_bytes().to_vec();
    let (opcode, body) = match asking.call {
        Call::Write => return None,
        Call::Lookup(name) => (1, name.message()?),
        // fuse_getattr_in: flags, padding, handle.
        Call::Getattr => (3, vec![0; 16]),
        // fuse_open_in: the caller's flags, flags of FUSE's own.
        Call::Open(flags) => (14, [word(flags.cast_unsigned()), word(0)].concat()),
        Call::Read(offset, size) => (15, part(offset, size)),
        Call::Readdir(offset) => (28, part(offset, FOLDER_PART)),
        Call::Readdirplus(offset) => (44, part(offset, FOLDER_PART)),
    };
    // fuse_in_header: length, opcode, number, inode, uid, gid, thread, extensions.
    let length = u32::try_from(40 + body.len()).ok()?;
    let numbers = [asking.unique | RESENT, asking.ino.0].map(|one| one.to_ne_bytes());
    let header = [
        word(length),
        word(opcode),
        numbers.concat(),
        word(asking.uid),
        word(asking.uid),
        word(asking.tid),
        word(0),
    ];
    Some([header.concat(), body].concat())
}

/// fuse_read_in: handle, offset, size, flags, lock owner, the caller's flags, padding.
fn part(offset: u64, size: u32) -> Vec<u8> {
    let mut body = vec![0; 40];
    body[8..16].copy_from_slice(&offset.to_ne_bytes());
    body[16..20].copy_from_slice(&size.to_ne_bytes());
    body
}

/// Answers a request with an error; false: nobody waits for that.
fn refuse(device: &OwnedFd, unique: u64, refusal: Refusal) -> io::Result<bool> {
    let errno = -Errno::from(refusal).code();
    // fuse_out_header: length, error, number.
    let mut header = [0; 16];
    header[..4].copy_from_slice(&16_u32.to_ne_bytes());
    header[4..8].copy_from_slice(&errno.to_ne_bytes());
    header[8..].copy_from_slice(&unique.to_ne_bytes());
    reply(device, &header)
}

/// Gives the kernel an answer; false: nobody waits for that.
pub(crate) fn reply(device: &OwnedFd, answer: &[u8]) -> io::Result<bool> {
    match rustix::io::write(device, answer) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
