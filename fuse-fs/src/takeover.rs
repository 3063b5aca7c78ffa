//! Putting a file system on a FUSE connection: a new one, or one that another secretsd has left.
//!
//! The kernel sends INIT once in a connection's life, and a session of fuser waits for one. So INIT
//! goes to the session over a socket pair: as it came from a new connection, or as the first secretsd
//! kept it. Then the device takes the socket's place under the session's descriptor. What was
//! negotiated thus stays what it was, whoever serves.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use fuser::{Config, Errno, Filesystem, Session, SessionACL};
use model::Tree;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::adapter::Adapter;
use crate::errno::Refusal;
use crate::handover::{Beginning, Handover};
use crate::inflight::InFlight;
use crate::tree::Views;

/// The kernel refuses a read into a buffer that is smaller than 8 KiB.
const BUFFER: usize = 64 * 1024;
/// INIT is there as soon as the connection is mounted.
const PATIENCE: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};
/// fuse_out_header of FUSE_NOTIFY_RESEND (linux/fuse.h): length 16, code 7, unique 0.
const RESEND: [u8; 16] = [16, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Serves a tree of the services' on a connection, from threads of its own, until the connection
/// ends.
///
/// # Errors
/// The connection has ended, or is not what `handover` says.
pub fn serve(
    tree: Tree,
    device: OwnedFd,
    views: &Arc<Views>,
    handover: &Handover,
) -> io::Result<()> {
    // One thread answers while another waits for a page of the store.
    let threads = match tree {
        Tree::Secret => 2,
        Tree::Config => 1,
    };
    let begun = begin(&device, handover)?;
    let in_flight = Arc::new(InFlight::of(&handover.memfd)?);
    let adapter = Adapter::new(tree, Arc::clone(views), Arc::clone(&in_flight));
    let session = session(adapter, &device, handover.fresh, &begun, threads)?;
    views.serves(tree, session.notifier(), begun.connection, handover.fresh);
    if !handover.fresh {
        resume(&device, &in_flight)?;
    }
    let name = match tree {
        Tree::Secret => "secret",
        Tree::Config => "config",
    };
    run(name, session)
}

/// How the connection began; for a fresh one, that is now.
pub(crate) fn begin(device: &OwnedFd, handover: &Handover) -> io::Result<Beginning> {
    if !handover.fresh {
        return Beginning::load(&handover.memfd);
    }
    let begun = Beginning::new(read_init(device)?)?;
    begun.keep(&handover.memfd)?;
    Ok(begun)
}

/// A session that the kernel believes to be the one it has always talked to.
pub(crate) fn session<F: Filesystem>(
    file_system: F,
    device: &OwnedFd,
    fresh: bool,
    begun: &Beginning,
    threads: usize,
) -> io::Result<Session<F>> {
    let (ours, sessions) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::send(&ours, &begun.init, SendFlags::NOSIGNAL)?;
    let mut config = Config::default();
    config.n_threads = Some(threads);
    let session = Session::from_fd(file_system, sessions, SessionACL::All, config)?;
    if fresh {
        let mut answer = [0; 4096];
        let (length, _) = rustix::net::recv(&ours, &mut answer[..], RecvFlags::empty())?;
        rustix::io::write(device, &answer[..length])?;
    }
    drop(ours);
    sys::fuse::replace(session.as_fd(), device.as_fd())?;
    Ok(session)
}

/// Settles what the one before us took and did not answer.
pub(crate) fn resume(device: &OwnedFd, in_flight: &InFlight) -> io::Result<()> {
    for left in in_flight.take_left() {
        if left.again {
            log::error!(
                "request {} (inode {:?}) was under way when secretsd ended, twice: it gets an error",
                left.opcode,
                left.ino
            );
            answer(device, left.unique, Refusal::Crashes)?;
        }
    }
    resend(device)
}

/// Answers a request of another process with an error. It may be answered already.
fn answer(device: &OwnedFd, unique: u64, refusal: Refusal) -> io::Result<bool> {
    let errno = -Errno::from(refusal).code();
    // fuse_out_header: length, error, unique.
    let mut header = [0; 16];
    header[..4].copy_from_slice(&16_u32.to_ne_bytes());
    header[4..8].copy_from_slice(&errno.to_ne_bytes());
    header[8..].copy_from_slice(&unique.to_ne_bytes());
    match rustix::io::write(device, &header) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Asks the kernel to send again what is not answered.
fn resend(device: &OwnedFd) -> io::Result<()> {
    match rustix::io::write(device, &RESEND) {
        Ok(_) => Ok(()),
        // Linux before 6.9.
        Err(rustix::io::Errno::INVAL) => {
            log::warn!(
                "this kernel cannot send requests again: a read that was under way when secretsd \
                 ended may hang until its process is killed"
            );
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

pub(crate) fn run<F: Filesystem>(name: &'static str, session: Session<F>) -> io::Result<()> {
    let serve = move || match session.run() {
        Ok(()) => log::info!("the {name} connection has ended"),
        Err(error) => log::error!("the {name} connection has ended: {error}"),
    };
    std::thread::Builder::new()
        .name(format!("fuse-{name}"))
        .spawn(serve)?;
    Ok(())
}

fn read_init(device: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut ready = [PollFd::new(device, PollFlags::IN)];
    if poll(&mut ready, Some(&PATIENCE))? == 0 {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the kernel does not begin: is this connection mounted, and new?",
        ));
    }
    let mut init = vec![0; BUFFER];
    let length = rustix::io::read(device, &mut init[..])?;
    init.truncate(length);
    Ok(init)
}

/// The kernel's caches hold what they hold until they are told otherwise (docs/semantics.md).
pub(crate) const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);
