//! What secretsd refuses, in a form that survives the wire: a kind, words, and what mends it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of refusal; decides the varlink error and the exit code of `deploy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No secret, config, version, field, grant or slot of that name.
    NotFound,
    /// The name exists already, or its state forbids the change.
    Conflict,
    /// This caller may not, or the passphrase is wrong.
    Denied,
    /// The store is sealed.
    Sealed,
    /// The parameters cannot be what was meant.
    Invalid,
    /// Too much at once; later it will do.
    Busy,
    /// Everything else.
    Failed,
    /// There is no such method; told in varlink's own words.
    NoMethod,
    /// There is no such interface to describe; told in varlink's own words too.
    NoInterface,
}

/// Each kind with its name on the wire.
const NAMES: [(ErrorKind, &str); 9] = [
    (ErrorKind::NotFound, "io.deploy.Secrets.NotFound"),
    (ErrorKind::Conflict, "io.deploy.Secrets.Conflict"),
    (ErrorKind::Denied, "io.deploy.Secrets.Denied"),
    (ErrorKind::Sealed, "io.deploy.Secrets.Sealed"),
    (ErrorKind::Invalid, "io.deploy.Secrets.Invalid"),
    (ErrorKind::Busy, "io.deploy.Secrets.Busy"),
    (ErrorKind::Failed, "io.deploy.Secrets.Failed"),
    (ErrorKind::NoMethod, "org.varlink.service.MethodNotFound"),
    (
        ErrorKind::NoInterface,
        "org.varlink.service.InterfaceNotFound",
    ),
];

impl ErrorKind {
    /// The varlink error.
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or("", |(_, name)| name)
    }

    /// The kind of a varlink error, if it is one of ours.
    pub fn of_name(name: &str) -> Option<ErrorKind> {
        NAMES
            .iter()
            .find(|(_, other)| *other == name)
            .map(|(kind, _)| *kind)
    }

    /// The exit code of `deploy`.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Busy | ErrorKind::Failed => 1,
            ErrorKind::Invalid | ErrorKind::NoMethod | ErrorKind::NoInterface => 2,
            ErrorKind::Denied => 3,
            ErrorKind::NotFound => 4,
            ErrorKind::Sealed => 5,
            ErrorKind::Conflict => 6,
        }
    }
}

/// A refusal: what and why, and the command that mends it. Never holds a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// What kind.
    pub kind: ErrorKind,
    /// What, and why.
    pub message: String,
    /// What mends it.
    pub hint: Option<String>,
}

impl ControlError {
    fn new(kind: ErrorKind, message: impl Into<String>) -> ControlError {
        let message = message.into();
        ControlError {
            kind,
            message,
            hint: None,
        }
    }

    /// Something that was named is not there.
    pub fn not_found(message: impl Into<String>) -> ControlError {
        ControlError::new(ErrorKind::NotFound, message)
    }

    /// Something is there that must not be, or its state forbids the change.
    pub fn conflict(message: impl Into<String>) -> ControlError {
        ControlError::new(ErrorKind::Conflict, message)
    }

    /// The caller may not.
    pub fn denied(message: impl Into<String>, hint: impl Into<String>) -> ControlError {
        ControlError::new(ErrorKind::Denied, message).hint(hint)
    }

    /// The store is sealed.
    pub fn sealed() -> ControlError {
        ControlError::new(ErrorKind::Sealed, "the store is sealed").hint("unseal it: deploy unseal")
    }

    /// The parameters cannot be what was meant.
    pub fn invalid(message: impl Into<String>) -> ControlError {
        ControlError::new(ErrorKind::Invalid, message)
    }

    /// Too much at once.
    pub fn busy(message: impl Into<String>) -> ControlError {
        ControlError::new(ErrorKind::Busy, message).hint("try again in a moment")
    }

    /// Anything else.
    pub fn failed(message: impl Into<String>) -> ControlError {
        ControlError::new(ErrorKind::Failed, message)
    }

    /// There is no such method.
    pub fn no_method(method: &str) -> ControlError {
        ControlError::new(ErrorKind::NoMethod, shown(method))
            .hint("list them: deploy call org.varlink.service.GetInfo")
    }

    /// There is no such interface.
    pub fn no_interface(interface: &str) -> ControlError {
        ControlError::new(ErrorKind::NoInterface, shown(interface))
    }

    /// With the command that mends it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> ControlError {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code of `deploy`.
    pub fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }
}

/// A word from outside as it may stand in a message: short, and without control characters.
fn shown(word: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    word.chars().take(120).map(plain).collect()
}

/// Parameters of an error on the wire.
#[derive(Serialize, Deserialize)]
struct Parameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl ControlError {
    /// The parameters of the varlink error.
    pub(crate) fn parameters(&self) -> impl Serialize {
        let text = Some(self.message.clone());
        let (message, method, interface, hint) = match self.kind {
            ErrorKind::NoMethod => (None, text, None, None),
            ErrorKind::NoInterface => (None, None, text, None),
            _ => (text, None, None, self.hint.clone()),
        };
        Parameters {
            message,
            method,
            interface,
            hint,
        }
    }

    /// What a varlink error says, ours or another's.
    pub(crate) fn of_wire(name: &str, parameters: Option<&str>) -> ControlError {
        let told: Option<Parameters> = parameters.and_then(|text| serde_json::from_str(text).ok());
        let (message, word, hint) = match told {
            Some(told) => (told.message, told.method.or(told.interface), told.hint),
            None => (None, None, None),
        };
        let word = || shown(&word.unwrap_or_default());
        match ErrorKind::of_name(name) {
            Some(ErrorKind::NoMethod) => {
                ControlError::failed(format!("secretsd has no method {}", word()))
                    .hint("is secretsd of the same version as deploy?")
            }
            Some(ErrorKind::NoInterface) => {
                ControlError::not_found(format!("secretsd has no interface {}", word()))
                    .hint("list them: deploy call org.varlink.service.GetInfo")
            }
            Some(kind) => {
                let message = message.unwrap_or_else(|| kind.to_string());
                ControlError {
                    kind,
                    message,
                    hint,
                }
            }
            None => ControlError::failed(format!("secretsd answers {}", shown(name))),
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorKind::NotFound => "not found",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Denied => "denied",
            ErrorKind::Sealed => "sealed",
            ErrorKind::Invalid => "invalid",
            ErrorKind::Busy => "busy",
            ErrorKind::Failed => "failed",
            ErrorKind::NoMethod => "no such method",
            ErrorKind::NoInterface => "no such interface",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_refusal_is_the_same_on_both_ends_of_the_wire() {
        for (kind, name) in NAMES {
            assert_eq!(kind.name(), name);
            if matches!(kind, ErrorKind::NoMethod | ErrorKind::NoInterface) {
                continue;
            }
            let sent = ControlError::new(kind, "what").hint("mend it");
            let text = serde_json::to_string(&sent.parameters()).unwrap();
            assert_eq!(ControlError::of_wire(name, Some(&text)), sent);
        }
    }

    #[test]
    fn an_error_that_nobody_knows_is_told_without_control_characters() {
        let error = ControlError::of_wire("x.\u{1b}[31m", None);
        assert_eq!(error.exit_code(), 1);
        assert!(!error.message.contains('\u{1b}'), "{error}");
        ControlError::of_wire("io.deploy.Secrets.Failed", Some("[[[")).to_string();
    }
}
