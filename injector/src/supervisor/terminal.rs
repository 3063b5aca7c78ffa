//! The caller's terminal. A service is a process group of its own, in the foreground while it runs:
//! Ctrl-C goes to the service alone, and not to the supervisor, who would forward it a second time.

use std::fs::File;
use std::io::IsTerminal;

use rustix::process::Pid;

/// The terminal that this process was in the foreground of, if there is one to hand over.
#[derive(Debug)]
pub(super) struct Terminal(Option<File>);

impl Terminal {
    /// `None` inside where there is none, in the background, and in a pipeline: the other programs
    /// of a pipeline are in our group, and would lose the terminal with us.
    pub fn of_caller() -> Terminal {
        let interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let tty = interactive.then(|| File::options().read(true).write(true).open("/dev/tty"));
        let foreground = |tty: &File| {
            rustix::termios::tcgetpgrp(tty).is_ok_and(|group| group == rustix::process::getpgrp())
        };
        Terminal(tty.and_then(Result::ok).filter(foreground))
    }

    /// Is there one to hand over?
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Puts the service's group in front, if it is we who are.
    pub fn give(&self, group: Pid) {
        self.set(group);
    }

    /// Takes the foreground back.
    pub fn take_back(&self) {
        self.set(rustix::process::getpgrp());
    }

    fn set(&self, group: Pid) {
        if let Some(tty) = &self.0
            && let Err(error) = sys::process::set_foreground(std::os::fd::AsFd::as_fd(tty), group)
        {
            log::debug!("terminal: {error}");
        }
    }
}
