//! A pseudo-terminal with a command on it, for prompts.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use rustix::termios::{LocalModes, tcgetattr};

use crate::command::{end_of, line_of};
use crate::{interrupt, wait};

/// A command whose standard streams are a terminal of its own.
pub struct Terminal {
    line: String,
    child: Child,
    keyboard: std::fs::File,
    descriptor: OwnedFd,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    /// Starts `command` as the leader of a session on a new terminal.
    pub fn start(command: Command) -> Terminal {
        let line = line_of(&command);
        let (pty, pts) = pty_process::blocking::open().unwrap();
        pty.resize(pty_process::Size::new(24, 100)).unwrap();
        let creating = interrupt::creating();
        let child = pty_process::blocking::Command::from(command)
            .spawn(pts)
            .unwrap_or_else(|e| panic!("`{line}` does not start: {e}"));
        drop(creating);
        let descriptor = OwnedFd::from(pty);
        let keyboard = std::fs::File::from(descriptor.try_clone().unwrap());
        let mut output = std::fs::File::from(descriptor.try_clone().unwrap());
        let screen = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // EIO is how a terminal says that its last user is gone.
            while let Ok(count @ 1..) = output.read(&mut chunk) {
                shown.lock().unwrap().extend_from_slice(&chunk[..count]);
            }
        });
        Terminal {
            line,
            child,
            keyboard,
            descriptor,
            screen,
            reader: Some(reader),
        }
    }

    /// All that the terminal has shown so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    /// Waits until `text` is on the screen `times` times.
    #[track_caller]
    pub fn shows(&self, text: &str, times: usize) {
        let found = wait::within(wait::LONG, || {
            (self.screen().matches(text).count() >= times).then_some(())
        });
        assert!(
            found.is_some(),
            "`{}` does not show {text:?} {times} times:\n{}",
            self.line,
            self.screen()
        );
    }

    /// Waits until the command has turned the echo off, then types a line.
    #[track_caller]
    pub fn type_hidden(&mut self, text: &str) {
        let hidden = wait::within(wait::LONG, || {
            let modes = tcgetattr(self.descriptor.as_fd()).ok()?.local_modes;
            (!modes.contains(LocalModes::ECHO)).then_some(())
        });
        assert!(
            hidden.is_some(),
            "`{}` does not turn the echo off:\n{}",
            self.line,
            self.screen()
        );
        self.type_line(text);
    }

    /// Types a line.
    pub fn type_line(&mut self, text: &str) {
        self.keyboard
            .write_all(format!("{text}\n").as_bytes())
            .unwrap();
    }

    /// Presses a key, as Ctrl-C (`0x03`).
    pub fn press(&mut self, key: u8) {
        self.keyboard.write_all(&[key]).unwrap();
    }

    /// Waits for the end; gives the exit code and all that was shown.
    #[track_caller]
    pub fn end(mut self) -> (i32, String) {
        let code = end_of(&mut self.child, wait::LONG);
        let Some(code) = code else {
            panic!("`{}` hangs:\n{}", self.line, self.screen());
        };
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        (code, self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
