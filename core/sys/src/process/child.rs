//! The child between fork(2) and exec(2). It is a copy of one thread of a process that may have had
//! others, which may have held any lock: so nothing here allocates, locks, logs or panics; only
//! system calls, on what [`Plan`] holds.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use rustix::net::{RecvFlags, SendFlags};
use rustix::thread::{CapabilitySet, CapabilitySets, ThreadNameSpaceType, UnshareFlags};

use super::plan::Plan;

/// The step of a start that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    Ready,
    Group,
    Cgroup,
    Namespaces,
    Propagation,
    Bounding,
    Credentials,
    Capabilities,
    Privileges,
    Folder,
    Parent,
    Descriptors,
    Exec,
}

impl Step {
    const ALL: [(Step, &'static str); 13] = [
        (Step::Ready, "start"),
        (Step::Group, "make a process group"),
        (Step::Cgroup, "enter the cgroup"),
        (Step::Namespaces, "make or enter a namespace"),
        (Step::Propagation, "set the propagation of mounts"),
        (Step::Bounding, "limit the capability bounding set"),
        (Step::Credentials, "take the user and groups"),
        (Step::Capabilities, "drop capabilities"),
        (Step::Privileges, "give up new privileges"),
        (Step::Folder, "enter the working folder"),
        (Step::Parent, "follow the parent's end"),
        (Step::Descriptors, "arrange descriptors"),
        (Step::Exec, "execute"),
    ];
}

/// Why a process could not be started, when it was not exec(2) that failed: the source of an
/// [`io::Error`] of the same kind.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {source}")]
pub struct StartError {
    step: &'static str,
    source: io::Error,
}

/// What the child says to its parent: a step, and an errno.
pub(super) const REPORT: usize = 8;

fn report(step: Step, errno: i32) -> [u8; REPORT] {
    let [a, b, c, d] = errno.to_ne_bytes();
    [step as u8, 0, 0, 0, a, b, c, d]
}

/// In the parent: what a child said. `Ok`: it waits.
pub(super) fn understand(report: [u8; REPORT]) -> io::Result<()> {
    let [number, _, _, _, a, b, c, d] = report;
    let source = io::Error::from_raw_os_error(i32::from_ne_bytes([a, b, c, d]));
    match Step::ALL.iter().find(|(step, _)| *step as u8 == number) {
        Some((Step::Ready, _)) => Ok(()),
        Some((Step::Exec, _)) => Err(source),
        Some((_, step)) => Err(io::Error::new(source.kind(), StartError { step, source })),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Becomes the program, or says on `parent` why not, and ends.
pub(super) fn run(plan: &mut Plan, parent: &OwnedFd, pause: bool) -> ! {
    let end = End;
    let failed = match become_program(plan, parent, pause) {
        Ok(never) => match never {},
        Err(failed) => failed,
    };
    if let Some((step, errno)) = failed {
        let report = report(step, errno.raw_os_error());
        let _ = rustix::net::send(parent, &report, SendFlags::NOSIGNAL);
    }
    end.now()
}

/// Ends this process when dropped, so that not even a panic lets it go on as a second parent.
struct End;

impl End {
    fn now(&self) -> ! {
        // SAFETY: ends this process at once, without what exit(3) would do on behalf of the parent.
        unsafe { libc::_exit(127) }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.now();
    }
}

/// `None`: the parent is gone, nobody is there to be told.
type Failed = Option<(Step, Errno)>;

enum Never {}

fn become_program(plan: &mut Plan, parent: &OwnedFd, pause: bool) -> Result<Never, Failed> {
    let at = |step| move |errno| Some((step, errno));
    default_signals();
    if plan.new_process_group {
        rustix::process::setpgid(None, None).map_err(at(Step::Group))?;
    }
    if let Some(cgroup) = &plan.cgroup {
        // 0 is whoever writes.
        rustix::io::write(cgroup, b"0").map_err(at(Step::Cgroup))?;
    }
    make_namespaces(plan)?;
    if let Some(kept) = plan.capabilities {
        limit_bounding_set(kept).map_err(at(Step::Bounding))?;
    }
    take_credentials(plan).map_err(at(Step::Credentials))?;
    if let Some(kept) = plan.capabilities {
        limit_capabilities(kept).map_err(at(Step::Capabilities))?;
    }
    if plan.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(at(Step::Privileges))?;
    }
    if let Some(folder) = &plan.cwd {
        rustix::process::chdir(folder.as_c_str()).map_err(at(Step::Folder))?;
    }
    if let Some(signal) = plan.parent_death_signal {
        // Last of all that concerns credentials, for a change of those clears it.
        rustix::process::set_parent_process_death_signal(Some(signal)).map_err(at(Step::Parent))?;
        if rustix::process::getppid() != Some(plan.parent) {
            return Err(None);
        }
    }
    arrange_descriptors(plan, parent).map_err(at(Step::Descriptors))?;
    plan.set_listen_pid(rustix::process::getpid());
    unblock_signals();
    if pause {
        wait_for_parent(parent)?;
    }
    // SAFETY: path and arrays end with NUL and null, and live in `plan`.
    unsafe {
        libc::execve(
            plan.program.as_ptr(),
            plan.argv.as_ptr(),
            plan.envp.as_ptr(),
        )
    };
    Err(Some((Step::Exec, last_errno())))
}

/// exec(2) keeps ignored signals ignored, and Rust programs ignore SIGPIPE. Handlers go before the
/// mask does: they are the parent's.
fn default_signals() {
    // Larger than the kernel's struct on any architecture; the C library's does not reach the
    // signals that it keeps to itself.
    let default = [0_u64; 8];
    for signal in 1..=SIGNALS {
        // SAFETY: all zero is SIG_DFL without flags; this changes our process alone, which takes no
        // signal until the mask is cleared. SIGKILL and SIGSTOP are refused, and need no change.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                SIGNALS / 8,
            )
        };
    }
}

/// As many signals the kernel has; its sets have a bit for each.
const SIGNALS: usize = 64;

fn unblock_signals() {
    // SAFETY: zero is the empty set, also before sigemptyset says so; changes this process alone.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

fn make_namespaces(plan: &Plan) -> Result<(), Failed> {
    if let Some(pidfd) = &plan.mount_namespace_of {
        rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), ThreadNameSpaceType::MOUNT)
            .map_err(|errno| Some((Step::Namespaces, errno)))?;
    }
    let mut flags = UnshareFlags::empty();
    flags.set(UnshareFlags::NEWNS, plan.new_mount_namespace);
    flags.set(UnshareFlags::NEWNET, plan.new_net_namespace);
    if flags.is_empty() {
        return Ok(());
    }
    // SAFETY: only CLONE_FILES would be unsafe, which gives descriptors another meaning.
    unsafe { rustix::thread::unshare_unsafe(flags) }
        .map_err(|errno| Some((Step::Namespaces, errno)))?;
    if plan.new_mount_namespace {
        let downwards = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", downwards)
            .map_err(|errno| Some((Step::Propagation, errno)))?;
    }
    Ok(())
}

/// Needs CAP_SETPCAP, unless the set has no more already.
fn limit_bounding_set(kept: CapabilitySet) -> Result<(), Errno> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(true) if !kept.contains(capability) => {
                rustix::thread::remove_capability_from_bounding_set(capability)?
            }
            Ok(_) => {}
            // Beyond the last that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn take_credentials(plan: &Plan) -> Result<(), Errno> {
    let Some(to) = &plan.credentials else {
        return Ok(());
    };
    // The system calls change one thread, and there is one.
    rustix::thread::set_thread_groups(&to.groups)?;
    rustix::thread::set_thread_res_gid(to.gid, to.gid, to.gid)?;
    rustix::thread::set_thread_res_uid(to.uid, to.uid, to.uid)
}

fn limit_capabilities(kept: CapabilitySet) -> Result<(), Errno> {
    rustix::thread::clear_ambient_capability_set()?;
    // Whoever changed its user has lost what it had.
    let has = rustix::thread::capabilities(None)?;
    let limited = CapabilitySets {
        effective: has.effective & kept,
        permitted: has.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, limited)
}

/// Puts each descriptor where the program expects it, and closes all others but `parent`, which
/// exec(2) closes.
fn arrange_descriptors(plan: &Plan, parent: &OwnedFd) -> Result<(), Errno> {
    for (source, target) in &plan.descriptors {
        // SAFETY: the source is open, and is no target. What the target was belonged to the parent's
        // objects, of which this process uses none but those of the plan.
        if unsafe { libc::dup2(source.as_raw_fd(), *target) } < 0 {
            return Err(last_errno());
        }
    }
    let kept = parent.as_raw_fd();
    close_between(plan.first_free, kept - 1)?;
    close_between(kept + 1, i32::MAX)
}

fn close_between(first: i32, last: i32) -> Result<(), Errno> {
    if first > last {
        return Ok(());
    }
    // SAFETY: as above; the plan's descriptors are not used after this, and the plan is not dropped.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } != 0 {
        return Err(last_errno());
    }
    Ok(())
}

fn wait_for_parent(parent: &OwnedFd) -> Result<(), Failed> {
    let ready = report(Step::Ready, 0);
    rustix::net::send(parent, &ready, SendFlags::NOSIGNAL).map_err(|_| None)?;
    let mut go = [0_u8];
    loop {
        match rustix::net::recv(parent, &mut go[..], RecvFlags::empty()) {
            Ok((1, _)) => return Ok(()),
            Err(Errno::INTR) => {}
            // The parent ended, or dropped us.
            _ => return Err(None),
        }
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
