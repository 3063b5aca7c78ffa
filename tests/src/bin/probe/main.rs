//! The service under test: does what each line of standard input asks, answers a line each.
//!
//! `probe serve` | `probe forget-keys` | `probe flood SOCKET`
#![forbid(unsafe_code)]
// A probe that meets what it does not expect ends with a panic; its test then fails.
#![allow(clippy::unwrap_used)]

mod busy;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use tests::probe::{Answer, Ask, Change};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("serve") => serve(),
        Some("forget-keys") => return forget_keys(),
        Some("flood") => flood(&std::env::args().nth(2).unwrap()),
        _ => {
            eprintln!("usage: probe serve|forget-keys|flood SOCKET");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Clears the user keyring of our own uid.
fn forget_keys() -> ExitCode {
    // keyctl(1) is not on a bare Debian, and /proc/keys lists only what we may see.
    let text = std::fs::read_to_string("/proc/keys").unwrap_or_default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.get(7) == Some(&"user") {
            let description = words[8..].join(" ");
            let description = description.rsplit_once(": ").map_or("", |(name, _)| name);
            let _ = sys::keyring::remove(description);
        }
    }
    ExitCode::SUCCESS
}

/// Connects again and again, keeps what it can, sends and never reads, until it is killed.
fn flood(socket: &str) {
    let mut kept = Vec::new();
    loop {
        if let Ok(mut stream) = UnixStream::connect(socket) {
            let _ = stream.set_nonblocking(true);
            let _ = stream.write(&[b'x'; 4096]);
            kept.push(stream);
        }
        if kept.len() > 500 {
            kept.clear();
        }
    }
}

fn serve() {
    let mut probe = State::default();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let ask: Ask = serde_json::from_str(&line).unwrap();
        let answer = probe
            .act(ask)
            .unwrap_or_else(|errno| Answer::Errno(errno.raw_os_error()));
        println!("{}", serde_json::to_string(&answer).unwrap());
    }
}

#[derive(Default)]
struct State {
    kept: HashMap<i32, File>,
    child: Option<(Child, File)>,
    loops: Vec<JoinHandle<Vec<String>>>,
    rounds: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    busy: busy::Busy,
}

impl State {
    fn keep(&mut self, descriptor: OwnedFd) -> Answer {
        let file = File::from(descriptor);
        let number = file.as_raw_fd();
        self.kept.insert(number, file);
        Answer::Descriptor(number)
    }

    fn kept(&self, number: i32) -> Result<&File, Errno> {
        self.kept.get(&number).ok_or(Errno::BADF)
    }

    fn act(&mut self, ask: Ask) -> Result<Answer, Errno> {
        Ok(match ask {
            Ask::Ping => Answer::Done,
            Ask::Open(path) => {
                let descriptor = rustix::fs::open(path, reading(), Mode::empty())?;
                self.keep(descriptor)
            }
            Ask::OpenFolder(path) => {
                let flags = reading() | OFlags::DIRECTORY;
                let descriptor = rustix::fs::open(path, flags, Mode::empty())?;
                self.keep(descriptor)
            }
            Ask::Close(number) => {
                self.kept.remove(&number).ok_or(Errno::BADF)?;
                Answer::Done
            }
            Ask::OpenAt(folder, name) => {
                let folder = self.kept(folder)?;
                let descriptor = rustix::fs::openat(folder, name, reading(), Mode::empty())?;
                self.keep(descriptor)
            }
            Ask::Pread(number, at, count) => {
                let mut bytes = vec![0; count];
                let count = self.kept(number)?.read_at(&mut bytes, at).map_err(errno)?;
                bytes.truncate(count);
                Answer::Bytes(bytes)
            }
            Ask::Read(path) => Answer::Bytes(std::fs::read(path).map_err(errno)?),
            Ask::List(path) => {
                let folder = rustix::fs::open(path, reading() | OFlags::DIRECTORY, Mode::empty())?;
                list(&File::from(folder))?
            }
            Ask::ListAt(folder) => list(self.kept(folder)?)?,
            Ask::Stat(path) => attributes(&std::fs::symlink_metadata(path).map_err(errno)?),
            Ask::StatAt(number) => attributes(&self.kept(number)?.metadata().map_err(errno)?),
            Ask::StatIn(folder, name) => {
                let folder = self.kept(folder)?;
                rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                Answer::Done
            }
            Ask::Xattr(path) => {
                let mut value = [0; 256];
                let count = rustix::fs::lgetxattr(path, "user.x", &mut value[..])?;
                Answer::Bytes(value[..count].to_vec())
            }
            Ask::Xattrs(path) => {
                let mut names = [0; 4096];
                let count = rustix::fs::llistxattr(path, &mut names[..])?;
                Answer::Bytes(names[..count].to_vec())
            }
            Ask::Change(change, path) => {
                try_to(change, &path)?;
                Answer::Done
            }
            Ask::Chdir(path) => {
                std::env::set_current_dir(path).map_err(errno)?;
                Answer::Done
            }
            Ask::Connect(path) => connect(&path)?,
            Ask::Child(number) => {
                let file = self.kept(number)?.try_clone().map_err(errno)?;
                let (waits, goes) = rustix::pipe::pipe()?;
                // Its standard input is the file; it waits for a line on its standard error,
                // which is a pipe from us, before it reads that.
                let child = Command::new("/bin/sh")
                    .args(["-c", "read go <&2; exec cat"])
                    .stdin(file)
                    .stdout(Stdio::piped())
                    .stderr(waits)
                    .spawn()
                    .map_err(errno)?;
                self.child = Some((child, File::from(goes)));
                Answer::Done
            }
            Ask::ChildReads => {
                let (child, mut goes) = self.child.take().ok_or(Errno::CHILD)?;
                goes.write_all(b"go\n").map_err(errno)?;
                let output = child.wait_with_output().map_err(errno)?;
                Answer::Child(output.status.code().unwrap_or(-1), output.stdout)
            }
            Ask::Who => Answer::Who(
                rustix::process::getuid().as_raw(),
                rustix::process::getgid().as_raw(),
                rustix::process::getgroups()?
                    .iter()
                    .map(|gid| gid.as_raw())
                    .collect(),
            ),
            Ask::Environment => Answer::Names(
                std::env::vars()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect(),
            ),
            Ask::Loop(path, allowed) => {
                self.start_loop(path, allowed);
                Answer::Done
            }
            Ask::Busy { files, coming } => {
                self.busy.start(files, coming);
                Answer::Done
            }
            Ask::BusyEnds => self.busy.end(),
            Ask::Pairs(first, second, count) => pairs(&first, &second, count),
            Ask::LoopEnds => {
                self.ended.store(true, Ordering::SeqCst);
                let failures = self
                    .loops
                    .drain(..)
                    .flat_map(|one| one.join().unwrap())
                    .collect();
                self.ended.store(false, Ordering::SeqCst);
                Answer::Loops(self.rounds.swap(0, Ordering::SeqCst), failures)
            }
        })
    }

    fn start_loop(&mut self, path: String, allowed: Vec<String>) {
        let (rounds, ended) = (Arc::clone(&self.rounds), Arc::clone(&self.ended));
        self.loops.push(std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !ended.load(Ordering::SeqCst) && failures.len() < 10 {
                match std::fs::read(&path) {
                    Ok(bytes) if allowed.iter().any(|right| right.as_bytes() == bytes) => {}
                    Ok(bytes) => failures.push(format!("{path}: {} wrong bytes", bytes.len())),
                    Err(e) => failures.push(format!("{path}: {e}")),
                }
                rounds.fetch_add(1, Ordering::SeqCst);
            }
            failures
        }));
    }
}

fn pairs(first: &str, second: &str, count: u64) -> Answer {
    let mut failures = Vec::new();
    for _ in 0..count {
        // Who does not get the first begins again: a second alone would be the first of a pair.
        let both = std::fs::read(first).and_then(|one| Ok((one, std::fs::read(second)?)));
        match both {
            Ok((first, second)) if first == second => {}
            Ok((first, second)) => failures.push(format!(
                "{} and {}",
                String::from_utf8_lossy(&first),
                String::from_utf8_lossy(&second)
            )),
            Err(e) => failures.push(e.to_string()),
        }
    }
    Answer::Loops(count, failures)
}

fn reading() -> OFlags {
    OFlags::RDONLY | OFlags::CLOEXEC
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))
}

fn list(folder: &File) -> Result<Answer, Errno> {
    rustix::fs::seek(folder, rustix::fs::SeekFrom::Start(0))?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(Answer::Names(names))
}

fn attributes(meta: &std::fs::Metadata) -> Answer {
    Answer::Attributes {
        ino: meta.ino(),
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        size: meta.size(),
        mtime: meta.mtime(),
    }
}

fn try_to(change: Change, path: &str) -> Result<(), Errno> {
    let beside = format!("{path}.beside");
    let made = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let all = Mode::from_raw_mode(0o600);
    match change {
        Change::Write => {
            rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map(drop)
        }
        Change::Truncate => {
            let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map(drop)
        }
        Change::Create => rustix::fs::open(beside, made, all).map(drop),
        Change::Mkdir => rustix::fs::mkdir(beside, all),
        Change::Rename => rustix::fs::rename(path, beside),
        Change::Link => rustix::fs::link(path, beside),
        Change::Symlink => rustix::fs::symlink("/etc/passwd", beside),
        Change::Unlink => rustix::fs::unlink(path),
        Change::Chmod => {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(errno)
        }
        Change::Touch => {
            let now = rustix::fs::Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_NOW,
            };
            let times = rustix::fs::Timestamps {
                last_access: now,
                last_modification: now,
            };
            rustix::fs::utimensat(CWD, path, &times, AtFlags::empty())
        }
        Change::SetXattr => rustix::fs::setxattr(path, "user.x", b"1", XattrFlags::empty()),
        Change::RemoveXattr => rustix::fs::removexattr(path, "user.x"),
    }
}

fn connect(path: &str) -> Result<Answer, Errno> {
    let mut stream = UnixStream::connect(path).map_err(errno)?;
    let call = b"{\"method\":\"io.deploy.Secrets.List\",\"parameters\":{}}\0";
    stream.write_all(call).map_err(errno)?;
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).map_err(errno)?;
    Ok(Answer::Bytes(bytes[..count].to_vec()))
}
