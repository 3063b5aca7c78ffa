//! Where the demo plays: a pair, and the shell lines that are typed and shown.

use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::command::run;
use tests::programs::build_folder;
use tests::{Finished, Pair, Terminal};

/// A pair, with a folder `bin` of its own for the programs that lines name.
pub struct Stage {
    /// The pair.
    pub pair: Pair,
    bold: bool,
    /// Set for lines that name it; never part of a line.
    password: &'static str,
}

impl Stage {
    /// Makes the folders and starts nothing.
    pub fn prepare(password: &'static str) -> Stage {
        let pair = Pair::prepare_as("deploy-demo-");
        let bin = pair.folder().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::fs::set_permissions(&bin, PermissionsExt::from_mode(0o755)).unwrap();
        let bold = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Stage {
            pair,
            bold,
            password,
        }
    }

    /// The pair's folder.
    pub fn folder(&self) -> &Path {
        self.pair.folder()
    }

    /// Puts a script into `bin` that every user may run; gives its path.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    /// `sh -c LINE` in the pair's folder, with the environment that was said at the beginning.
    fn line(&self, line: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]);
        self.surround(&mut command);
        command
    }

    /// Gives a command the folder and the environment of the demo's shell.
    pub fn surround(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!(
            "{}/bin:{}:{path}",
            self.folder().display(),
            build_folder().display()
        );
        command
            .current_dir(self.folder())
            .env("PATH", path)
            .env("LC_ALL", "C")
            .env("DEPLOY_STATE_DIR", self.pair.state())
            .env("DEPLOY_RUN_DIR", self.pair.run_folder())
            .env("PASSWORD", self.password);
    }

    /// Shows a line as it is typed.
    pub fn shows(&self, line: &str) {
        self.strong(&format!("# {line}"));
    }

    /// Types a line, shows it and what it answers, and checks its exit code and that no value is
    /// shown.
    #[track_caller]
    pub fn types(&self, line: &str, code: i32) -> Finished {
        self.shows(line);
        let finished = run(self.line(line), b"");
        answers(&finished.out());
        answers(&finished.err());
        finished.code(code).hides(self.password)
    }

    /// Types a line at a terminal of its own.
    pub fn at_a_terminal(&self, line: &str) -> Terminal {
        self.shows(line);
        Terminal::start(self.line(line))
    }

    /// The heading of a step.
    pub fn heading(&self, words: &str) {
        println!();
        self.strong(&format!("=== {words}"));
    }

    /// A remark.
    pub fn remarks(&self, words: &str) {
        println!("    {words}");
    }

    fn strong(&self, words: &str) {
        if self.bold {
            println!("\x1b[1m{words}\x1b[0m");
        } else {
            println!("{words}");
        }
    }
}

/// Shows what a command answered, with a line end where it gave none.
pub fn answers(text: &str) {
    print!("{text}");
    if !text.is_empty() && !text.ends_with('\n') {
        println!();
    }
}
