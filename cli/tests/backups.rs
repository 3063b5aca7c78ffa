//! What `deploy backup` leaves behind when it is cut short, told by a secretsd that the test plays.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod played;

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use control::calls::{BackupContents, BackupMade, BackupMake, BackupPart, Bytes};
use control::frame::{self, Call, FrameReader, Patience};
use model::Timestamp;
use played::Played;

const PART: &[u8] = &[7; 100_000];
/// Of `PART`.
const SHA256: &str = "2c4b101169bf328cd4a882e640a8b57eb3acf76518b3d105869905cf629e791c";

fn part(bytes: &[u8]) -> BackupPart {
    BackupPart {
        done: 1,
        total: 2,
        data: Some(Bytes(bytes.to_vec())),
        made: None,
    }
}

fn made(sha256: &str, bytes: usize) -> BackupPart {
    let contents = BackupContents {
        store: "ab".repeat(16),
        version: "1.2".into(),
        made: Timestamp(0),
        anchor: None,
        cipher: "aes-256-gcm".into(),
        records: 2,
        secrets: 1,
        versions: 1,
        grants: 0,
        configs: 0,
        slots: Vec::new(),
        warnings: Vec::new(),
    };
    BackupPart {
        done: 2,
        total: 2,
        data: None,
        made: Some(BackupMade {
            bytes: bytes as u64,
            sha256: sha256.into(),
            contents,
        }),
    }
}

/// Answers one call after the other with `answer`.
fn plays(run_dir: &Path, answer: impl Fn(UnixStream) + Send + 'static) {
    let listener = UnixListener::bind(run_dir.join("control.sock")).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = FrameReader::new(frame::MAX_CALL);
            let frame = reader.read(&stream, Patience::default()).unwrap().unwrap();
            let call = Call::parse(&frame).unwrap();
            assert!(call.more && call.parameters::<BackupMake>().is_ok());
            answer(stream);
        }
    });
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn a_secretsd_that_ends_in_the_middle_leaves_no_file_and_the_one_that_was_there() {
    let played = Played::absent();
    plays(played.run_dir(), |stream| {
        frame::write_reply(&mut &stream, &part(PART), true).unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.age");
    let words = ["backup", file.to_str().unwrap(), "--recipient", "age1x"];
    played.deploy(&words).ends(1, &["hung up"]);
    assert!(names(folder.path()).is_empty());
    std::fs::write(&file, "a good one").unwrap();
    let words = [&words[..], &["--force"]].concat();
    played.deploy(&words).ends(1, &["hung up"]);
    assert_eq!(std::fs::read(&file).unwrap(), b"a good one");
    assert_eq!(names(folder.path()).len(), 1);
}

#[test]
fn what_is_not_as_secretsd_made_it_gets_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.age");
    let words = ["backup", file.to_str().unwrap(), "--recipient", "age1x"];
    for (sha256, bytes, whole) in [
        (SHA256, PART.len(), true),
        (SHA256, PART.len() + 1, false),
        (&"0".repeat(64), PART.len(), false),
    ] {
        let played = Played::absent();
        let last = made(sha256, bytes);
        plays(played.run_dir(), move |stream| {
            frame::write_reply(&mut &stream, &part(&PART[..1000]), true).unwrap();
            frame::write_reply(&mut &stream, &part(&PART[1000..]), true).unwrap();
            frame::write_reply(&mut &stream, &last, false).unwrap();
        });
        if whole {
            played.deploy(&words).ends(0, &[]);
            assert_eq!(std::fs::read(&file).unwrap(), PART);
            std::fs::remove_file(&file).unwrap();
        } else {
            played.deploy(&words).ends(1, &["read back"]);
        }
        assert!(names(folder.path()).is_empty());
    }
}

/// Ends with the test, whatever becomes of it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_kill_at_any_moment_leaves_nothing() {
    let played = Played::absent();
    let (done, ends) = std::sync::mpsc::channel::<()>();
    plays(played.run_dir(), move |stream| {
        frame::write_reply(&mut &stream, &part(PART), true).unwrap();
        // Until the test is over.
        let _ = ends.recv();
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.age");
    std::fs::write(&file, "a good one").unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_deploy"))
        .args([
            "backup",
            file.to_str().unwrap(),
            "--recipient",
            "age1x",
            "--force",
        ])
        .env("DEPLOY_RUN_DIR", played.run_dir())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let open = format!("/proc/{}/fd", running.0.id());
    let has_written = || {
        let entries = std::fs::read_dir(&open).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| std::fs::metadata(entry.path()).ok())
            .any(|meta| meta.is_file() && meta.len() == PART.len() as u64)
    };
    let began = Instant::now();
    while !has_written() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "nothing is written"
        );
        thread::yield_now();
    }
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    drop(done);
    assert_eq!(names(folder.path()), ["f.age"]);
    assert_eq!(std::fs::read(&file).unwrap(), b"a good one");
}
