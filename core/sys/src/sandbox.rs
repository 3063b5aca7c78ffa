//! What secretsd and the injector give up for good, before they do anything else.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    path_beneath_rules,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

/// No core dump of this process, no look into its memory by others of its user (ptrace(2), and thus
/// /proc/PID/mem), and no more privileges by exec(2).
///
/// # Errors
/// As prctl(2) and setrlimit(2).
pub fn harden() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none)?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// Raises the soft limit of descriptors to the hard one: it is low for programs that use select(2),
/// and 1,024 by default. Programs that are started from here on inherit it.
///
/// # Errors
/// As setrlimit(2).
pub fn raise_descriptors() -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    Ok(rustix::process::setrlimit(Resource::Nofile, raised)?)
}

/// Has this thread any capability: effective, permitted or inheritable (the ambient ones are among
/// these)?
///
/// # Errors
/// As capget(2).
pub fn has_capabilities() -> io::Result<bool> {
    let sets = rustix::thread::capabilities(None)?;
    Ok(!(sets.effective | sets.permitted | sets.inheritable).is_empty())
}

/// From now on no thread of this process can execute or fork, mount or enter namespaces, trace or
/// read another process, load code into the kernel, signal another process, or make a socket that
/// leads out of the host: EPERM. Threads, files and AF_UNIX sockets go on. Also gives up new
/// privileges.
///
/// # Errors
/// The kernel has no seccomp filters, or this is an architecture without a rule set.
pub fn forbid_exec_and_mounts() -> io::Result<()> {
    let calls = [FORBIDDEN, OF_MOUNTS, OF_X86].concat();
    forbid(calls.into_iter().map(|call| (call, Vec::new())))
}

/// The same for a program whose work is mounts: it may make them, take them away, and enter mount
/// namespaces, no other ones. It may signal by pidfd, and reaches nobody by number.
///
/// # Errors
/// As [`forbid_exec_and_mounts`].
pub fn forbid_exec_and_networks() -> io::Result<()> {
    let flag = |flag: i32| u64::from(flag.unsigned_abs());
    let not = |argument, flag| rule(argument, SeccompCmpOp::Ne, flag);
    // A thread of its own in another mount namespace needs these two, and no more.
    let entering = [
        (libc::SYS_unshare, vec![not(0, flag(libc::CLONE_FS))?]),
        (libc::SYS_setns, vec![not(1, flag(libc::CLONE_NEWNS))?]),
    ];
    let calls = [FORBIDDEN, OF_OLD_MOUNTS, OF_X86].concat();
    let calls = calls.into_iter().map(|call| (call, Vec::new()));
    forbid(calls.chain(entering))
}

/// Calls that get EPERM, and when; without a rule always.
fn forbid(calls: impl Iterator<Item = (i64, Vec<SeccompRule>)>) -> io::Result<()> {
    // An answer for programs that try the newest call first: glibc then starts threads by clone(2),
    // whose flags a filter can see.
    seccompiler::apply_filter_all_threads(&unknown_calls()?).map_err(io::Error::other)?;
    let forbidden = forbidden_calls(calls.collect())?;
    seccompiler::apply_filter_all_threads(&forbidden).map_err(io::Error::other)
}

/// From now on this thread, and those that it starts, change files below `own` alone: nothing else
/// can be removed, renamed, truncated, or be made, but for plain files, and nothing can be executed
/// anywhere, nor a device made or asked for more than its bytes. Reading, and making a plain file, is
/// left to the modes of files, for a key file may lie wherever an operator wants it.
///
/// False: this kernel has no Landlock (landlock(7)), and nothing has changed. An older one restricts
/// less of this: renaming from folder to folder since 5.19, truncating since 6.2, devices since 6.10.
///
/// # Errors
/// As landlock_restrict_self(2); new privileges must have been given up.
pub fn restrict_files(own: &[&Path]) -> io::Result<bool> {
    // The newest with a right of files that we know and want: sockets are for modes and seccomp.
    let all = AccessFs::from_all(ABI::V5);
    let anywhere = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::MakeReg;
    let never = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    let restricted = Ruleset::default()
        .handle_access(all)
        .and_then(Ruleset::create)
        // A folder that is not there has nothing in it to be changed.
        .and_then(|rules| rules.add_rules(path_beneath_rules(["/"], anywhere)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(own, all & !never)))
        .and_then(|rules| rules.restrict_self());
    let restricted = restricted.map_err(io::Error::other)?;
    Ok(restricted.ruleset != RulesetStatus::NotEnforced)
}

/// The x32 ABI of x86-64 numbers each call a second time, beyond this bit; no other architecture of
/// ours has such numbers. Kernels of Debian do not offer it.
const X32: u32 = 0x4000_0000;

/// ENOSYS to clone3(2), EPERM to calls by their x32 number.
fn unknown_calls() -> io::Result<Vec<sock_filter>> {
    let clone3 = u32::try_from(libc::SYS_clone3).map_err(io::Error::other)?;
    let errno = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
    // seccomp(2): the number of the call is at offset 0.
    let number = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let is_at_least = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    // The last two numbers: how many instructions a yes and a no skip.
    Ok(vec![
        bpf(number, 0, 0, 0)?,
        bpf(is_at_least, X32, 2, 0)?,
        bpf(equals, clone3, 2, 0)?,
        bpf(answer, libc::SECCOMP_RET_ALLOW, 0, 0)?,
        bpf(answer, errno(libc::EPERM), 0, 0)?,
        bpf(answer, errno(libc::ENOSYS), 0, 0)?,
    ])
}

fn bpf(code: u32, k: u32, jt: u8, jf: u8) -> io::Result<sock_filter> {
    let code = u16::try_from(code).map_err(io::Error::other)?;
    Ok(sock_filter { code, jt, jf, k })
}

/// With what depends on an argument for every program of ours: processes, sockets, signals.
fn forbidden_calls(mut rules: BTreeMap<i64, Vec<SeccompRule>>) -> io::Result<Vec<sock_filter>> {
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let unix = u64::from(libc::AF_UNIX.unsigned_abs());
    let own = u64::from(std::process::id());
    // Any clone(2) that does not make a thread makes a process.
    let forks = rule(0, SeccompCmpOp::MaskedEq(thread), 0)?;
    rules.insert(libc::SYS_clone, vec![forks]);
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        rules.insert(call, vec![rule(0, SeccompCmpOp::Ne, unix)?]);
    }
    // raise(3) and abort(3) are tgkill(2) to ourselves.
    for call in [
        libc::SYS_kill,
        libc::SYS_tgkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
    ] {
        rules.insert(call, vec![rule(0, SeccompCmpOp::Ne, own)?]);
    }
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, architecture);
    let filter = filter.map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> io::Result<SeccompRule> {
    // 32 bits, as the kernel itself takes these arguments: it ignores what is above.
    let length = SeccompCmpArgLen::Dword;
    let condition = SeccompCondition::new(argument, length, operator, value);
    let condition = condition.map_err(io::Error::other)?;
    SeccompRule::new(vec![condition]).map_err(io::Error::other)
}

const FORBIDDEN: &[i64] = &[
    // Programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_tkill,
    // Files.
    libc::SYS_chroot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_open_by_handle_at,
    // io_uring(7) does what it is asked to without passing by here.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // The kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_fanotify_init,
    // Would run a program of the host's to make a key.
    libc::SYS_request_key,
    // The host.
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_personality,
];

/// Mounts, namespaces, and signals by pidfd.
const OF_MOUNTS: &[i64] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pidfd_send_signal,
];

/// Mounts by path, for which the calls above are the better way.
const OF_OLD_MOUNTS: &[i64] = &[libc::SYS_mount, libc::SYS_pivot_root, libc::SYS_fspick];

#[cfg(target_arch = "x86_64")]
const OF_X86: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
];
#[cfg(not(target_arch = "x86_64"))]
const OF_X86: &[i64] = &[];
