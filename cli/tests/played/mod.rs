//! A secretsd that the test plays, and `deploy` asking it.
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

use std::io::Write as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use control::ControlError;
use control::frame::{self, Call, FrameReader, Patience};
use serde_json::Value;

/// A secretsd of which the test says what it answers.
pub struct Played {
    dir: tempfile::TempDir,
}

/// What it answers to one call.
pub type Answer = Result<Value, ControlError>;

impl Played {
    pub fn new(answer: impl Fn(&Call<'_>) -> Answer + Send + Sync + 'static) -> Played {
        let played = Played::absent();
        let listener = UnixListener::bind(played.run_dir().join("control.sock")).unwrap();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                thread::spawn(move || serve(&stream, &*answer));
            }
        });
        played
    }

    /// Nobody answers.
    pub fn absent() -> Played {
        Played {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn run_dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn deploy(&self, words: &[&str]) -> Said {
        self.deploy_with(words, b"")
    }

    pub fn deploy_with(&self, words: &[&str], input: &[u8]) -> Said {
        let mut child = Command::new(env!("CARGO_BIN_EXE_deploy"))
            .args(words)
            .env("DEPLOY_RUN_DIR", self.run_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Said {
            code: output.status.code().unwrap(),
            err: text(&output.stderr),
            out: text(&output.stdout),
            bytes: output.stdout,
        }
    }
}

fn serve(stream: &UnixStream, answer: &dyn Fn(&Call<'_>) -> Answer) {
    let mut reader = FrameReader::new(frame::MAX_CALL);
    while let Ok(Some(bytes)) = reader.read(stream, Patience::default()) {
        match answer(&Call::parse(&bytes).unwrap()) {
            Ok(reply) => frame::write_reply(&mut &*stream, &reply, false).unwrap(),
            Err(error) => frame::write_error(&mut &*stream, &error).unwrap(),
        }
    }
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
    pub bytes: Vec<u8>,
}

impl Said {
    #[track_caller]
    pub fn ends(self, code: i32, words: &[&str]) -> Said {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not said: {self:?}");
        }
        assert!(!self.err.contains("panicked"), "{self:?}");
        self
    }
}
