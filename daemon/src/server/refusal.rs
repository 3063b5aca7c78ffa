//! What the store refuses, as an operator is told it.

use control::ControlError;
use model::SecretName;
use store::{ConfigError, Denied, ReadError, SlotError, UnsealError, WriteError};

use crate::host::acts::ActError;

pub(super) fn of_write(error: WriteError) -> ControlError {
    match error {
        WriteError::Sealed => ControlError::sealed(),
        WriteError::NotFound(what) => ControlError::not_found(what),
        WriteError::Conflict(what) | WriteError::Shape(what) => ControlError::conflict(what),
        WriteError::TooLarge(what) | WriteError::Invalid(what) => ControlError::invalid(what),
        WriteError::Busy(what) => ControlError::busy(what),
        WriteError::Slot(error) => of_slot(error),
        error => ControlError::failed(error.to_string()),
    }
}

pub(super) fn of_act(error: ActError) -> ControlError {
    match error {
        ActError::Store(error) => of_write(error),
        // The rest says itself what is to be done.
        error => ControlError::failed(error.to_string()),
    }
}

fn of_slot(error: SlotError) -> ControlError {
    let what = error.to_string();
    match error {
        SlotError::Unknown(_) => ControlError::not_found(what),
        SlotError::Parameters { .. } | SlotError::EmptyPassphrase | SlotError::Label => {
            ControlError::invalid(what)
        }
        SlotError::FileExists(_) | SlotError::TooMany(_) | SlotError::Last => {
            ControlError::conflict(what)
        }
        _ => ControlError::failed(what),
    }
}

/// Operators may read every secret, so what is left is a name that is not there.
pub(super) fn of_denied(denied: Denied, name: &SecretName) -> ControlError {
    match denied {
        Denied::Sealed => ControlError::sealed(),
        Denied::UnknownSecret => no_secret(name),
        denied => ControlError::denied(denied.to_string(), "ask for it as root"),
    }
}

pub(super) fn no_secret(name: &SecretName) -> ControlError {
    ControlError::not_found(format!("there is no secret `{name}`"))
        .hint("list them: deploy secret list")
}

pub(super) fn of_read(error: ReadError, name: &SecretName) -> ControlError {
    match error {
        ReadError::Sealed => ControlError::sealed(),
        // A permit of an operator ends with the secret alone.
        ReadError::Revoked | ReadError::Expired => no_secret(name),
        ReadError::NoVersion(..) | ReadError::NoField(..) => {
            ControlError::not_found(error.to_string())
        }
        error => ControlError::failed(error.to_string()),
    }
}

pub(super) fn of_config(error: ConfigError) -> ControlError {
    match error {
        ConfigError::Sealed => ControlError::sealed(),
        ConfigError::Missing(_) => ControlError::not_found(error.to_string()),
        error => ControlError::failed(error.to_string()),
    }
}

pub(super) fn of_unseal(error: UnsealError) -> ControlError {
    match error {
        UnsealError::WrongPassphrase => ControlError::denied(
            "the passphrase is wrong",
            "try again: deploy unseal; if it is right beyond doubt, the file `keys` is damaged: deploy restore",
        ),
        UnsealError::NoSuchSlot(_) => ControlError::not_found(error.to_string()),
        error => ControlError::failed(error.to_string()),
    }
}
