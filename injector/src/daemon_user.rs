//! secretsd's user: who it is, and how a program is run as it.

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown};
use std::path::{Path, PathBuf};

use rustix::pipe::{PipeFlags, pipe_with};
use sys::process::Spawn;
use sys::users::Account;

/// A program to be run as secretsd's user.
#[derive(Clone, Debug)]
pub struct DaemonCommand {
    /// The program, an absolute path.
    pub program: PathBuf,
    /// Its arguments, without the program itself.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
}

/// Runs `command` as secretsd's own user (a name, a number, or `UID:GID`), with descriptors 0, 1
/// and 2 of the caller, no capability, no new privileges and an empty network namespace, and waits
/// for it. Gives its exit code, 128 + signal if a signal ended it.
///
/// # Errors
/// The user is unknown, or the program cannot be started.
pub fn as_daemon_user(user: &str, command: &DaemonCommand) -> io::Result<i32> {
    run(user, command, None)
}

/// The same with `stdin` as descriptor 0: the way of a passphrase, which is never an argument.
///
/// # Errors
/// The user is unknown, or the program cannot be started.
pub fn as_daemon_user_with_stdin(
    user: &str,
    command: &DaemonCommand,
    stdin: BorrowedFd<'_>,
) -> io::Result<i32> {
    run(user, command, Some(stdin))
}

/// The same with a program that is told much and answers: `feed` writes its standard input, and what
/// it writes to its standard output is given with its exit code. One that ends before it has read all
/// is no failure of `feed`.
///
/// # Errors
/// As [`as_daemon_user`], and what `feed` says.
pub fn as_daemon_user_fed(
    user: &str,
    command: &DaemonCommand,
    feed: impl FnOnce(&mut File) -> io::Result<()> + Send,
) -> io::Result<(i32, Vec<u8>)> {
    let (its_input, input) = pipe_with(PipeFlags::CLOEXEC)?;
    let (output, its_output) = pipe_with(PipeFlags::CLOEXEC)?;
    let spawn = prepare(user, command)?;
    let spawn = spawn.stdin(its_input.as_fd()).stdout(its_output.as_fd());
    let mut child = spawn.start()?;
    drop((its_input, its_output));
    std::thread::scope(|threads| {
        let feeding = threads.spawn(|| {
            let mut input = File::from(input);
            feed(&mut input)
        });
        let mut said = Vec::new();
        let read = File::from(output).read_to_end(&mut said);
        let code = child.wait()?.code_or_signal();
        let fed = feeding
            .join()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        read?;
        match fed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok((code, said)),
        }
    })
}

fn run(user: &str, command: &DaemonCommand, stdin: Option<BorrowedFd<'_>>) -> io::Result<i32> {
    let mut spawn = prepare(user, command)?;
    if let Some(stdin) = stdin {
        spawn = spawn.stdin(stdin);
    }
    Ok(spawn.start()?.wait()?.code_or_signal())
}

fn prepare<'a>(user: &str, command: &DaemonCommand) -> io::Result<Spawn<'a>> {
    let account = find(user)?;
    let mut spawn = Spawn::new(&command.program)
        .user(account.uid, account.gid, &[])
        .new_net_namespace()
        .drop_capabilities()
        .no_new_privileges();
    for arg in &command.args {
        spawn = spawn.arg(arg);
    }
    for (name, value) in &command.env {
        spawn = spawn.env(name, value);
    }
    Ok(spawn)
}

/// Makes a state folder that only secretsd's user can enter (0700), or checks that an existing one
/// is that user's. What is above it must exist. Says whether it was made.
///
/// # Errors
/// The user is unknown, the folder belongs to somebody else, or it cannot be made.
pub fn prepare_state_dir(user: &str, state_dir: &Path) -> io::Result<bool> {
    let account = find(user)?;
    match DirBuilder::new().mode(0o700).create(state_dir) {
        Ok(()) => {
            lchown(state_dir, Some(account.uid), Some(account.gid))?;
            // Or a power cut takes the folder with all that is synced in it.
            let parent = match state_dir.parent() {
                Some(parent) if parent != Path::new("") => parent,
                _ => Path::new("."),
            };
            File::open(parent)?.sync_all()?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = state_dir.symlink_metadata()?;
            if found.is_dir() && found.uid() == account.uid {
                return Ok(false);
            }
            let state_dir = state_dir.display();
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{state_dir} is there and is not a folder of user {user}"),
            ))
        }
        Err(error) => Err(error),
    }
}

/// secretsd's uid, by whom the injector knows it. Not root's: root may do other things there.
///
/// # Errors
/// The user is unknown, or root.
pub fn uid(user: &str) -> io::Result<u32> {
    match find(user)?.uid {
        0 => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "secretsd must not run as root; give it a user of its own",
        )),
        uid => Ok(uid),
    }
}

fn find(user: &str) -> io::Result<Account> {
    sys::users::account(user)?.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no user `{user}`; name another one with --user, or make it: adduser --system --group {user}"),
        )
    })
}
