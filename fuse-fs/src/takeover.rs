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

use fuser::{Config, Filesystem, Session, SessionACL};
use model::Tree;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use sys::apart::Apart;

use crate::adapter::Adapter;
use crate::handover::{Beginning, Handover};
use crate::inflight::InFlight;
use crate::kernel::Kernel;
use crate::tree::Views;
use crate::unanswered;

/// The kernel refuses a read into a buffer that is smaller than 8 KiB.
const BUFFER: usize = 64 * 1024;
/// With two, a reader on the same processor takes a sixth longer (docs/performance.md): each is woken,
/// one for the RELEASE of the last file and one for the OPEN of the next. A handler waits for nobody,
/// but for the disk of the store and of the audit log.
const THREADS: usize = 1;
/// INIT is there as soon as the connection is mounted, or was asked for again.
const PATIENCE: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};
const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// Serves a tree of the services' on a connection, from threads of its own, until the connection
/// ends. `apart` does [`tell_the_kernel`](crate::tell_the_kernel).
///
/// # Errors
/// The connection has ended, or is not what `handover` says.
pub fn serve(
    tree: Tree,
    device: OwnedFd,
    views: &Arc<Views>,
    handover: &Handover,
    apart: &Arc<Apart>,
) -> io::Result<()> {
    let begun = begin(&device, handover)?;
    let in_flight = Arc::new(InFlight::of(&handover.memfd)?);
    let adapter = || Adapter::new(tree, Arc::clone(views), Arc::clone(&in_flight));
    let session = session(adapter(), &device, &begun, THREADS)?;
    let own = session.as_fd().try_clone_to_owned()?;
    let kernel = Kernel::new(Arc::clone(apart), own);
    views.serves(tree, kernel, begun.connection, handover.fresh);
    if !handover.fresh {
        unanswered::settle(&device, &in_flight, handover.sweep, |left| {
            unanswered::answer(adapter(), &device, &begun, left)
        })?;
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
    begun: &Beginning,
    threads: usize,
) -> io::Result<Session<F>> {
    let (session, ours, answer) = session_of_ours(file_system, begun, threads)?;
    // For an old connection too: one before us may have been killed between its look at INIT and its
    // answer. Otherwise the kernel has had one, and waits for no other.
    unanswered::reply(device, &answer)?;
    drop(ours);
    sys::fuse::replace(session.as_fd(), device.as_fd())?;
    Ok(session)
}

/// A session that takes us for the kernel: with our end of its socket, and its answer to INIT.
pub(crate) fn session_of_ours<F: Filesystem>(
    file_system: F,
    begun: &Beginning,
    threads: usize,
) -> io::Result<(Session<F>, OwnedFd, Vec<u8>)> {
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
    let mut answer = vec![0; 4096];
    let (length, _) = rustix::net::recv(&ours, &mut answer[..], RecvFlags::empty())?;
    answer.truncate(length);
    Ok((session, ours, answer))
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
    if !is_readable(device, &AT_ONCE)? {
        // One before us may have been killed between taking it and keeping it.
        unanswered::resend(device)?;
        if !is_readable(device, &PATIENCE)? {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the kernel does not begin: is this connection mounted, and new?",
            ));
        }
    }
    let mut init = vec![0; BUFFER];
    let length = rustix::io::read(device, &mut init[..])?;
    init.truncate(length);
    Ok(init)
}

fn is_readable(device: &OwnedFd, patience: &Timespec) -> io::Result<bool> {
    let mut ready = [PollFd::new(device, PollFlags::IN)];
    Ok(poll(&mut ready, Some(patience))? > 0)
}

/// The kernel's caches hold what they hold until they are told otherwise (docs/semantics.md).
pub(crate) const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);
