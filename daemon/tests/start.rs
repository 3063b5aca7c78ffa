//! The start of the program itself: what it refuses, and what it is once it runs.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Nobody's, in systemd's range for dynamic users (systemd.io/UIDS-GIDS).
const UID: u32 = 65_519;

/// Folders of a secretsd, and its program where that user can run it.
struct Place {
    dir: tempfile::TempDir,
}

/// Ends with its test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::Builder::new()
            .prefix("dd-")
            .permissions(Permissions::from_mode(0o711))
            .tempdir_in("/tmp")
            .unwrap();
        let place = Place { dir };
        // Not by this process: a child that another thread forks meanwhile would hold the copy open
        // for writing, and running it would give ETXTBSY.
        let copied = Command::new("install")
            .args(["-m", "755", env!("CARGO_BIN_EXE_secretsd")])
            .arg(place.program())
            .status()
            .unwrap();
        assert!(copied.success());
        for folder in [place.state(), place.run()] {
            std::fs::create_dir(&folder).unwrap();
            chown(&folder, Some(UID), Some(UID)).unwrap();
            std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        }
        place
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("secretsd")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn as_root(&self, verb: &str) -> Command {
        let mut command = Command::new(self.program());
        self.options(&mut command, verb);
        command
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = self.as_root(verb);
        command.uid(UID).gid(UID);
        command
    }

    fn options(&self, command: &mut Command, verb: &str) {
        command
            .arg(verb)
            .env_clear()
            .env("DEPLOY_STATE_DIR", self.state())
            .env("DEPLOY_RUN_DIR", self.run())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }

    /// With a passphrase: such a store stays sealed, and puts no key into the user's keyring.
    fn init(&self, passphrase: &str) -> Output {
        let mut child = self
            .command("init")
            .arg("--passphrase-stdin")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(passphrase.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    }
}

#[track_caller]
fn refused(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(words), "{words:?} is not said: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

/// The value of a line of /proc/PID/status.
fn status(pid: u32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "waited in vain for {what}"
        );
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn is_locked(state: &Path) -> bool {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let files = std::fs::read_dir(state).into_iter().flatten().flatten();
    let inodes = files
        .filter_map(|file| file.metadata().ok())
        .map(|meta| meta.ino());
    inodes
        .chain(state.metadata().map(|meta| meta.ino()))
        .any(|inode| {
            locks.lines().any(|line| {
                line.split_whitespace()
                    .any(|word| word.ends_with(&format!(":{inode}")))
            })
        })
}

#[test]
fn root_and_capabilities_are_refused() {
    let place = Place::new();
    for verb in ["serve", "init"] {
        refused(
            &place.as_root(verb).output().unwrap(),
            "must not run as root",
        );
        let mut capable = Command::new("setpriv");
        let uid = UID.to_string();
        capable
            .args(["--reuid", &uid, "--regid", &uid, "--clear-groups"])
            .args([
                "--inh-caps",
                "+net_admin",
                "--ambient-caps",
                "+net_admin",
                "--",
            ])
            .arg(place.program());
        place.options(&mut capable, verb);
        capable.env("PATH", "/usr/bin:/bin");
        refused(&capable.output().unwrap(), "must not have any capability");
    }
    assert_eq!(
        std::fs::read_dir(place.state()).unwrap().count(),
        0,
        "something was written"
    );
}

#[test]
fn without_a_store_it_names_the_command_that_makes_one() {
    let place = Place::new();
    refused(&place.command("serve").output().unwrap(), "deploy init");
}

#[test]
fn a_store_is_made_once_and_shows_no_passphrase() {
    let place = Place::new();
    let made = place.init("a passphrase nobody sees\n");
    assert!(made.status.success(), "{made:?}");
    let again = place.init("another");
    refused(&again, "not empty");
    for output in [&made, &again] {
        let said = [&output.stdout[..], &output.stderr].concat();
        assert!(!String::from_utf8_lossy(&said).contains("nobody sees"));
    }
    let others = std::fs::read_dir(place.state())
        .unwrap()
        .flatten()
        .any(|file| {
            let meta = file.metadata().unwrap();
            meta.mode() & 0o077 != 0 || meta.uid() != UID
        });
    assert!(!others, "a file of the store is open to others");
}

#[test]
fn it_is_confined_before_anybody_is_served_and_gives_up_without_an_injector() {
    let place = Place::new();
    assert!(place.init("passphrase").status.success());
    let mut running = Running(place.command("serve").spawn().unwrap());
    let pid = running.0.id();
    until("the store's lock", || is_locked(&place.state()));
    assert_eq!(status(pid, "Seccomp"), "2");
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&status(pid, set), 16), Ok(0), "{set}");
    }
    let owner = std::fs::metadata(format!("/proc/{pid}/environ"))
        .unwrap()
        .uid();
    assert_eq!(
        owner, 0,
        "its memory is open to its own user: it is dumpable"
    );
    assert!(
        !place.run().join("control.sock").exists(),
        "operators are served too early"
    );

    refused(
        &place.command("serve").output().unwrap(),
        "another secretsd",
    );

    until("its end", || running.0.try_wait().unwrap().is_some());
    let mut said = String::new();
    std::io::Read::read_to_string(&mut running.0.stderr.take().unwrap(), &mut said).unwrap();
    assert!(
        said.contains("no injector") && said.contains("deploy-inject up"),
        "{said}"
    );
    assert_eq!(running.0.wait().unwrap().code(), Some(1));
}

#[test]
fn a_signal_ends_a_start_that_waits() {
    let place = Place::new();
    assert!(place.init("passphrase").status.success());
    let mut running = Running(place.command("serve").spawn().unwrap());
    until("the store's lock", || is_locked(&place.state()));
    let pid = rustix::process::Pid::from_child(&running.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}
