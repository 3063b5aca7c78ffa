//! What went wrong, told in one place: what, why, and what mends it.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use control::{ClientError, ErrorKind};

/// A failure of this program's own finding.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
            hint: None,
        }
    }

    /// Anything.
    pub fn failed(message: impl Into<String>) -> Failure {
        Failure::new(1, message)
    }

    /// The command cannot be what was meant.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(2, message)
    }

    /// This user may not.
    pub fn denied(message: impl Into<String>) -> Failure {
        Failure::new(3, message)
    }

    /// What was named is not there.
    pub fn not_found(message: impl Into<String>) -> Failure {
        Failure::new(4, message)
    }

    /// Something is there, or is not as it must be.
    pub fn conflict(message: impl Into<String>) -> Failure {
        Failure::new(6, message)
    }

    /// What another program has ended with.
    pub fn with_code(code: u8, message: impl Into<String>) -> Failure {
        Failure::new(code, message)
    }

    /// Ctrl-C at a prompt, as a shell tells it.
    pub fn interrupted() -> Failure {
        Failure::new(130, "interrupted; nothing was done")
    }

    /// With what mends it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// What is said of an error.
struct Told {
    code: u8,
    kind: &'static str,
    message: String,
    hint: Option<String>,
}

impl Told {
    fn of(error: &anyhow::Error) -> Told {
        let (code, hint) = if let Some(failure) = error.downcast_ref::<Failure>() {
            (failure.code, failure.hint.clone())
        } else if let Some(error) = error.downcast_ref::<ClientError>() {
            (error.exit_code(), hint_of(error))
        } else {
            (1, None)
        };
        let message = printable(&chain(error));
        Told {
            code,
            kind: kind_of(code),
            message,
            hint: hint.map(|hint| printable(&hint)),
        }
    }
}

/// The error and its causes. Many an error tells its cause itself: that is told once.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn hint_of(error: &ClientError) -> Option<String> {
    match (error.hint(), error) {
        (Some(hint), _) => Some(hint.to_owned()),
        (None, ClientError::Refused(refused)) if refused.kind == ErrorKind::Sealed => {
            Some("unseal it: deploy unseal".to_owned())
        }
        _ => None,
    }
}

fn kind_of(code: u8) -> &'static str {
    match code {
        2 => "usage",
        3 => "denied",
        4 => "not_found",
        5 => "sealed",
        6 => "conflict",
        130 => "interrupted",
        _ => "failed",
    }
}

/// Tells an error, and gives the exit code.
pub fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let told = Told::of(error);
    // Whoever read our output has seen enough, as `head` does.
    if is_broken_pipe(error) {
        return ExitCode::from(told.code);
    }
    let mut err = io::stderr().lock();
    // Nobody may be there to read it.
    let _ = if json {
        let text = serde_json::json!({
            "error": told.kind,
            "message": told.message,
            "hint": told.hint,
        });
        writeln!(err, "{text}")
    } else {
        let (on, off) = if coloured(&err) {
            ("\x1b[1;31m", "\x1b[0m")
        } else {
            ("", "")
        };
        let hint = told
            .hint
            .map(|hint| format!("\n  hint: {hint}"))
            .unwrap_or_default();
        writeln!(err, "{on}error:{off} {}{hint}", told.message)
    };
    ExitCode::from(told.code)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// A terminal whose user has not asked for plain text (no-color.org).
fn coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Text as a terminal may get it: a name or a path may hold what acts on one.
pub fn printable(text: &str) -> String {
    let plain = |c: char| {
        if c.is_control() && c != '\n' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use control::ControlError;

    fn told(error: anyhow::Error) -> (u8, String, Option<String>) {
        let told = Told::of(&error);
        (told.code, told.message, told.hint)
    }

    #[test]
    fn a_context_keeps_the_exit_code_and_the_hint() {
        let failure = Err::<(), _>(Failure::not_found("no x").hint("make it"));
        let error = failure
            .context("in y")
            .err()
            .unwrap_or_else(|| anyhow::anyhow!(""));
        assert_eq!(
            told(error),
            (4, "in y: no x".into(), Some("make it".into()))
        );
    }

    #[test]
    fn a_cause_is_told_once() {
        let path = std::path::Path::new("/nowhere/control.sock");
        let error = control::Client::connect(path)
            .err()
            .map(anyhow::Error::from);
        let (_, message, hint) = told(error.unwrap_or_else(|| anyhow::anyhow!("")));
        assert_eq!(message.matches("No such file").count(), 1, "{message}");
        assert!(hint.is_some());
    }

    #[test]
    fn a_refusal_has_its_own_exit_code() {
        let refusals = [
            (ControlError::failed("x"), 1),
            (ControlError::invalid("x"), 2),
            (ControlError::denied("x", "y"), 3),
            (ControlError::not_found("x"), 4),
            (ControlError::sealed(), 5),
            (ControlError::conflict("x"), 6),
        ];
        for (refusal, code) in refusals {
            assert_eq!(told(ClientError::from(refusal).into()).0, code);
        }
    }

    #[test]
    fn nothing_that_acts_on_a_terminal_is_told() {
        let (_, message, _) = told(Failure::failed("a\u{1b}[31m\rb\nc").into());
        assert_eq!(message, "a\u{fffd}[31m\u{fffd}b\nc");
    }
}
