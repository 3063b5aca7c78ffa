//! A shell within a service: in its mount namespace, as its user.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use tests::{Service, interrupt};

use crate::stage::{Stage, answers};

/// Ends each answer; nothing that is typed here says it.
const MARK: &str = "--- exit code ";

/// An open shell. Dropping it ends it.
pub struct Shell {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Shell {
    /// Opens one, and shows the command that does.
    pub fn open(stage: &Stage, service: &Service, uid: u32) -> Shell {
        let mut command = service.inside(uid, &["sh"]);
        stage.shows(&tests::command::line_of(&command));
        stage.surround(&mut command);
        let creating = interrupt::creating();
        let mut child = command
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        drop(creating);
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut shell = Shell {
            child,
            stdin,
            stdout,
        };
        shell.send("exec 2>&1");
        shell
    }

    fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Types a line, shows it and its answer; gives the answer and the exit code.
    #[track_caller]
    pub fn types(&mut self, line: &str) -> (String, i32) {
        println!("$ {line}");
        self.send(&format!("{line}\necho \"{MARK}$?\""));
        let mut answer = String::new();
        loop {
            let mut text = String::new();
            let count = self.stdout.read_line(&mut text).unwrap();
            assert!(count > 0, "the shell within the service ended:\n{answer}");
            // The mark follows an answer without a line end on the same line.
            if let Some((rest, code)) = text.split_once(MARK) {
                answer.push_str(rest);
                answers(&answer);
                return (answer, code.trim().parse().unwrap());
            }
            answer.push_str(&text);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.stdin.take();
        let _ = self.child.wait();
    }
}
