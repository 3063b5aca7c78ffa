//! All that a forked child needs, laid out before the fork: after it, in a copy of a process that may
//! have had other threads, nothing may be allocated.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, Signal};
use rustix::thread::{CapabilitySet, Gid, Uid};

use super::Spawn;

/// The first descriptor that sd_listen_fds(3) hands over.
pub(super) const LISTEN_START: i32 = 3;
/// More descriptors than this hands nobody over.
pub(super) const LISTEN_MAX: usize = 1024;
const LISTEN_PID: &[u8] = b"LISTEN_PID=";
/// Room for the digits of a pid, and a NUL.
const PID_ROOM: usize = 11;

pub(super) struct Credentials {
    pub uid: Uid,
    pub gid: Gid,
    pub groups: Vec<Gid>,
}

pub(super) struct Plan {
    pub program: CString,
    pub argv: Strings,
    pub envp: Strings,
    /// `LISTEN_PID=` with room for digits, and its place in `envp`: only the child knows its pid.
    listen_pid: Option<(Vec<u8>, usize)>,
    pub cwd: Option<CString>,
    pub credentials: Option<Credentials>,
    pub new_mount_namespace: bool,
    /// Whose mount namespace to enter.
    pub mount_namespace_of: Option<OwnedFd>,
    pub new_net_namespace: bool,
    pub capabilities: Option<CapabilitySet>,
    pub no_new_privileges: bool,
    pub new_process_group: bool,
    pub parent_death_signal: Option<Signal>,
    pub parent: Pid,
    /// What is open as what. Every source is at `first_free` or above, and no target is.
    pub descriptors: Vec<(OwnedFd, i32)>,
    /// The first number that the program does not get.
    pub first_free: i32,
    pub cgroup: Option<OwnedFd>,
}

impl Plan {
    pub fn new(spawn: &Spawn<'_>) -> io::Result<Plan> {
        let count = spawn.listen.len();
        if count > LISTEN_MAX {
            return Err(invalid("too many descriptors to hand over"));
        }
        let first_free = LISTEN_START + i32::try_from(count).map_err(io::Error::other)?;
        let program = c_string(spawn.program.as_os_str())?;
        let args = spawn.args.iter().map(|arg| c_string(arg));
        let name = spawn.name.as_deref().map(c_string).transpose()?;
        let argv = std::iter::once(Ok(name.unwrap_or_else(|| program.clone())))
            .chain(args)
            .collect::<io::Result<_>>()?;
        let mut env = spawn
            .env
            .iter()
            .map(|(name, value)| variable(name, value))
            .collect::<io::Result<Vec<_>>>()?;
        let mut listen_pid = None;
        if count > 0 {
            let names: Vec<&str> = spawn.listen.iter().map(|(name, _)| name.as_str()).collect();
            if names
                .iter()
                .any(|name| name.bytes().any(|b| b == b':' || b < b' '))
            {
                return Err(invalid("the name of a descriptor holds no colon"));
            }
            env.push(c_string(OsStr::new(&format!("LISTEN_FDS={count}")))?);
            env.push(c_string(OsStr::new(&format!(
                "LISTEN_FDNAMES={}",
                names.join(":")
            )))?);
            let mut text = LISTEN_PID.to_vec();
            text.resize(LISTEN_PID.len() + PID_ROOM, 0);
            // The child puts the right one here.
            env.push(CString::default());
            listen_pid = Some((text, env.len() - 1));
        }
        Ok(Plan {
            program,
            argv: Strings::new(argv),
            envp: Strings::new(env),
            listen_pid,
            cwd: match &spawn.cwd {
                Some(folder) => Some(c_string(folder.as_os_str())?),
                None => None,
            },
            credentials: credentials(spawn)?,
            new_mount_namespace: spawn.new_mount_namespace,
            mount_namespace_of: match spawn.mount_namespace_of {
                Some(pidfd) => Some(copy_from(pidfd, first_free)?),
                None => None,
            },
            new_net_namespace: spawn.new_net_namespace,
            capabilities: spawn.capabilities,
            no_new_privileges: spawn.no_new_privileges,
            new_process_group: spawn.new_process_group,
            parent_death_signal: match spawn.parent_death_signal {
                Some(signal) => {
                    Some(Signal::from_named_raw(signal).ok_or_else(|| invalid("no such signal"))?)
                }
                None => None,
            },
            parent: rustix::process::getpid(),
            descriptors: descriptors(spawn, first_free)?,
            first_free,
            cgroup: match spawn.cgroup {
                Some(cgroup) => Some(cgroup.entrance()?),
                None => None,
            },
        })
    }

    /// A copy of a descriptor that is in nobody's way in the child.
    pub fn out_of_the_way(&self, fd: impl AsFd) -> io::Result<OwnedFd> {
        copy_from(fd.as_fd(), self.first_free)
    }

    /// In the child: writes its pid where `LISTEN_PID` belongs. Allocates nothing.
    pub fn set_listen_pid(&mut self, pid: Pid) {
        let Some((text, place)) = &mut self.listen_pid else {
            return;
        };
        let mut digits = [0_u8; PID_ROOM];
        let mut rest = pid.as_raw_nonzero().get().unsigned_abs();
        let mut length = 0;
        for digit in &mut digits {
            // At most 9, so that it fits.
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            length += 1;
            if rest == 0 {
                break;
            }
        }
        let room = text.iter_mut().skip(LISTEN_PID.len());
        for (to, from) in room.zip(digits.iter().take(length).rev()) {
            *to = *from;
        }
        self.envp.replace(*place, text);
    }
}

/// Strings as exec(2) takes them: an array of pointers that ends with a null pointer.
pub(super) struct Strings {
    /// What the pointers lead to.
    _owned: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Strings {
    fn new(owned: Vec<CString>) -> Strings {
        let pointers = owned.iter().map(|text| text.as_ptr());
        let pointers = pointers.chain(std::iter::once(ptr::null())).collect();
        Strings {
            _owned: owned,
            pointers,
        }
    }

    pub fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr()
    }

    /// `text` ends with NUL and lives as long as `self`.
    fn replace(&mut self, place: usize, text: &[u8]) {
        if let Some(pointer) = self.pointers.get_mut(place) {
            *pointer = text.as_ptr().cast();
        }
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| invalid("a path, argument or variable holds NUL"))
}

fn variable(name: &OsStr, value: &OsStr) -> io::Result<CString> {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return Err(invalid("the name of a variable is empty or holds `=`"));
    }
    let mut text = name.to_owned();
    text.push("=");
    text.push(value);
    c_string(&text)
}

fn credentials(spawn: &Spawn<'_>) -> io::Result<Option<Credentials>> {
    let Some(user) = &spawn.user else {
        return Ok(None);
    };
    // To setresuid(2) it would mean to stay who we are.
    let keeps = |number: &u32| *number == u32::MAX;
    if [user.uid, user.gid].iter().chain(&user.groups).any(keeps) {
        return Err(invalid("4294967295 is no user or group"));
    }
    Ok(Some(Credentials {
        uid: Uid::from_raw(user.uid),
        gid: Gid::from_raw(user.gid),
        groups: user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect(),
    }))
}

fn descriptors(spawn: &Spawn<'_>, first_free: i32) -> io::Result<Vec<(OwnedFd, i32)>> {
    let stdio = spawn.stdio.iter().zip(0..);
    let stdio = stdio.filter_map(|(fd, target)| Some((fd.as_ref()?, target)));
    let listen = spawn.listen.iter().map(|(_, fd)| fd).zip(LISTEN_START..);
    stdio
        .chain(listen)
        .map(|(fd, target)| Ok((copy_from(*fd, first_free)?, target)))
        .collect()
}

fn copy_from(fd: BorrowedFd<'_>, first: i32) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, first)?)
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
