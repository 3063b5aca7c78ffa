//! What was found, how bad it is, and what mends it.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use serde::Serialize;

use crate::failure::printable;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It works, and may not for long.
    Warning,
    /// Something does not work, or somebody may read what he should not.
    Error,
}

impl Severity {
    pub fn exit_code(self) -> ExitCode {
        match self {
            Severity::Ok | Severity::Note => ExitCode::SUCCESS,
            Severity::Warning => ExitCode::from(1),
            Severity::Error => ExitCode::from(2),
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What was looked at, in a word.
    pub about: &'static str,
    pub severity: Severity,
    pub says: String,
    /// The command, or the act, that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    #[serde(skip)]
    repair: Option<Repair>,
}

/// What can be done without a question.
#[derive(Debug)]
pub enum Repair {
    /// Of a file in a folder of root's.
    Mode(PathBuf, u32),
    /// Of a file that its owner, the user of this number, may put a link in place of at any moment.
    ModeOf(u32, PathBuf, u32),
    /// Of a keeper that is gone, in its run folder.
    Clean(PathBuf),
}

impl Repair {
    fn run(&self) -> io::Result<()> {
        match self {
            Repair::Mode(path, mode) => fs::set_permissions(path, Permissions::from_mode(*mode)),
            Repair::ModeOf(uid, path, mode) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let no_links = ResolveFlags::NO_SYMLINKS;
                let file = File::from(openat2(CWD, path, flags, Mode::empty(), no_links)?);
                if file.metadata()?.uid() != *uid {
                    return Err(io::Error::other("it is another user's"));
                }
                file.set_permissions(Permissions::from_mode(*mode))
            }
            Repair::Clean(run_dir) => injector::clean(run_dir, false).map_err(io::Error::other),
        }
    }
}

impl Finding {
    fn new(about: &'static str, severity: Severity, says: impl Into<String>) -> Finding {
        Finding {
            about,
            severity,
            says: says.into(),
            mend: None,
            repair: None,
        }
    }

    pub fn ok(about: &'static str, says: impl Into<String>) -> Finding {
        Finding::new(about, Severity::Ok, says)
    }

    pub fn note(about: &'static str, says: impl Into<String>) -> Finding {
        Finding::new(about, Severity::Note, says)
    }

    pub fn warning(about: &'static str, says: impl Into<String>) -> Finding {
        Finding::new(about, Severity::Warning, says)
    }

    pub fn error(about: &'static str, says: impl Into<String>) -> Finding {
        Finding::new(about, Severity::Error, says)
    }

    /// With what mends it.
    #[must_use]
    pub fn mend(mut self, mend: impl Into<String>) -> Finding {
        self.mend = Some(mend.into());
        self
    }

    /// With what `--repair` does.
    #[must_use]
    pub fn by(mut self, repair: Repair) -> Finding {
        self.repair = Some(repair);
        self
    }

    /// Does what is safe, if there is something; what came of it.
    pub fn repair(&mut self) -> Option<Finding> {
        let done = self.repair.take()?.run();
        Some(match done {
            Ok(()) => Finding::ok("repaired", self.says.clone()),
            Err(error) => Finding::error("repair", format!("{}: {error}", self.says)),
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        writeln!(f, "{word:8}{}: {}", self.about, printable(&self.says))?;
        match &self.mend {
            Some(mend) => writeln!(f, "        mend: {}", printable(mend)),
            None => Ok(()),
        }
    }
}

/// A path as a word of a shell's.
pub fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(is_plain) && !text.starts_with('-') {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// What `ask` gives, if it does so in time: it may wait for somebody who is dead, and is left behind
/// then.
pub fn within<T: Send + 'static>(
    patience: Duration,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, is_done) = channel();
    let asked = std::thread::Builder::new().spawn(move || done.send(ask()));
    asked.ok()?;
    is_done.recv_timeout(patience).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        let (never, waits) = channel::<()>();
        assert_eq!(within(Duration::ZERO, move || waits.recv()), None);
        drop(never);
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
    }

    #[test]
    fn a_path_is_one_word_whatever_is_in_it() {
        assert_eq!(word(Path::new("/a/b.key")), "/a/b.key");
        assert_eq!(word(Path::new("/a'; rm -rf /")), r"'/a'\''; rm -rf /'");
    }

    #[test]
    fn the_worst_says_how_it_ends() {
        assert!(Severity::Error > Severity::Warning && Severity::Warning > Severity::Note);
        let finding = Finding::warning("clock", "back\u{1b}[0m").mend("set it");
        assert_eq!(
            finding.to_string(),
            "warning clock: back\u{fffd}[0m\n        mend: set it\n"
        );
    }
}
