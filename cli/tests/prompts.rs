//! Questions at a terminal: nothing that is typed is seen, and nothing is sent that was not meant.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod played;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use control::calls::{self, Method};
use control::{ControlError, Plain};
use rustix::termios::{LocalModes, tcgetattr};
use serde_json::json;

use played::Played;

/// `deploy` on a terminal of its own.
struct Terminal {
    child: Child,
    end: OwnedFd,
    screen: Arc<Mutex<String>>,
    reader: thread::JoinHandle<()>,
}

impl Terminal {
    fn start(played: &Played, words: &[&str]) -> Terminal {
        Terminal::with(played, words, "1")
    }

    fn with(played: &Played, words: &[&str], no_color: &str) -> Terminal {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deploy"));
        command
            .args(words)
            .env("DEPLOY_RUN_DIR", played.run_dir())
            .env("NO_COLOR", no_color);
        let (pty, pts) = pty_process::blocking::open().unwrap();
        let child = pty_process::blocking::Command::from(command)
            .spawn(pts)
            .unwrap();
        let end = OwnedFd::from(pty);
        let mut output = File::from(end.try_clone().unwrap());
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 1024];
            // EIO is how a terminal says that its last user is gone.
            while let Ok(count @ 1..) = output.read(&mut chunk) {
                shown
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        });
        Terminal {
            child,
            end,
            screen,
            reader,
        }
    }

    fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    #[track_caller]
    fn until(&self, what: &str, done: impl Fn(&Terminal) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !done(self) {
            assert!(Instant::now() < end, "waited for {what}: {}", self.screen());
            thread::yield_now();
        }
    }

    fn echoes(&self) -> bool {
        tcgetattr(self.end.as_fd())
            .unwrap()
            .local_modes
            .contains(LocalModes::ECHO)
    }

    /// Waits for the question, and answers it.
    #[track_caller]
    fn answer(&mut self, question: &str, keys: &str) {
        self.until(question, |terminal| terminal.screen().contains(question));
        File::from(self.end.try_clone().unwrap())
            .write_all(keys.as_bytes())
            .unwrap();
    }

    fn end(mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap();
        assert!(self.echoes(), "the terminal is left without echo");
        // With its last user gone, the terminal's other side ends.
        self.reader.join().unwrap();
        let screen = self.screen.lock().unwrap().clone();
        (code, screen)
    }
}

fn keeping() -> (Played, Arc<Mutex<Vec<Vec<u8>>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeper = Arc::clone(&kept);
    let played = Played::new(move |call| match call.method.as_str() {
        calls::Set::NAME => {
            let set: calls::Set = call.parameters()?;
            let Plain::Single(bytes) = set.plain()? else {
                return Err(ControlError::failed("fields"));
            };
            keeper.lock().unwrap().push(bytes.to_vec());
            Ok(json!({"name": set.name, "version": 1, "created": 7}))
        }
        calls::Get::NAME => Ok(
            json!({"name": "a", "version": 1, "created": 7, "value": "aHVzaA==", "encoding": "base64"}),
        ),
        calls::Delete::NAME => {
            keeper.lock().unwrap().push(b"deleted".to_vec());
            Ok(json!({"services": []}))
        }
        _ => Err(ControlError::failed("another call")),
    });
    (played, kept)
}

#[test]
fn a_value_is_asked_for_twice_and_never_seen() {
    let (played, kept) = keeping();
    let mut terminal = Terminal::start(&played, &["secret", "set", "db_password"]);
    terminal.answer("Value of db_password: ", "hüsh now\n");
    assert!(
        !terminal.echoes(),
        "no echo between the two questions either"
    );
    terminal.answer("The same again: ", "hüsh now\n");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains("sh now"), "{screen}");
    assert_eq!(*kept.lock().unwrap(), ["hüsh now".as_bytes()]);
}

#[test]
fn a_value_longer_than_a_line_of_a_terminal_is_not_cut() {
    let (played, kept) = keeping();
    let long = "x".repeat(20_000);
    let mut terminal = Terminal::start(&played, &["secret", "set", "a"]);
    for question in ["Value of a: ", "The same again: "] {
        terminal.answer(question, &format!("{long}\n"));
    }
    assert_eq!(terminal.end().0, 0);
    assert_eq!(kept.lock().unwrap()[0].len(), long.len());
}

#[test]
fn two_answers_that_differ_and_ctrl_c_send_nothing() {
    let (played, kept) = keeping();
    let mut terminal = Terminal::start(&played, &["secret", "set", "a"]);
    terminal.answer("Value of a: ", "one\n");
    terminal.answer("The same again: ", "other\n");
    let (code, screen) = terminal.end();
    assert!(code == 1 && screen.contains("not the same"), "{screen}");
    let mut terminal = Terminal::start(&played, &["secret", "set", "a"]);
    terminal.answer("Value of a: ", "half\u{3}");
    let (code, screen) = terminal.end();
    assert!(code == 130 && !screen.contains("half"), "{screen}");
    assert!(kept.lock().unwrap().is_empty());
}

#[test]
fn a_value_is_shown_on_a_terminal_only_when_asked_to() {
    let (played, _) = keeping();
    let (code, screen) = Terminal::start(&played, &["secret", "get", "a"]).end();
    assert!(
        code == 2 && screen.contains("--show") && !screen.contains("hush"),
        "{screen}"
    );
    let (code, screen) = Terminal::start(&played, &["secret", "get", "a", "--json"]).end();
    assert!(code == 2 && !screen.contains("hush"), "{screen}");
    let (code, screen) = Terminal::start(&played, &["secret", "get", "a", "--show"]).end();
    assert_eq!((code, screen.as_str()), (0, "hush\r\n"));
}

#[test]
fn a_deletion_is_asked_about_and_no_is_the_default() {
    let (played, kept) = keeping();
    for (answer, code) in [("\n", 1), ("n\n", 1), ("y\n", 0)] {
        assert!(kept.lock().unwrap().is_empty());
        let mut terminal = Terminal::start(&played, &["secret", "delete", "a"]);
        terminal.answer("[y/N] ", answer);
        assert_eq!(terminal.end().0, code);
    }
    assert_eq!(kept.lock().unwrap().len(), 1);
}

#[test]
fn an_error_has_colour_on_a_terminal_unless_its_user_wants_none() {
    let (played, _) = keeping();
    for (no_color, coloured) in [("", true), ("1", false)] {
        let (_, screen) = Terminal::with(&played, &["secret", "get", "a"], no_color).end();
        assert_eq!(screen.contains('\u{1b}'), coloured, "{screen:?}");
    }
}
