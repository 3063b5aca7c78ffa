//! What a service's first process runs.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use model::Manifest;

use super::life::StartError;
use super::{RunOptions, environment};
use crate::{exec, installed};

/// What the manifest, or the caller, wants to be run.
pub(super) fn command(options: &RunOptions) -> Result<(PathBuf, Vec<OsString>), StartError> {
    let manifest = &options.manifest;
    let words = match &options.command {
        Some(words) => words.clone(),
        None => manifest.command.iter().map(OsString::from).collect(),
    };
    wrapped(manifest, words)
}

/// Program and arguments of a command of the service, by way of [`exec`] where secrets go into
/// variables.
pub(super) fn wrapped(
    manifest: &Manifest,
    words: Vec<OsString>,
) -> Result<(PathBuf, Vec<OsString>), StartError> {
    let mut words = words.into_iter();
    let word = words.next().ok_or(StartError::NoCommand)?;
    let text = word.to_string_lossy().into_owned();
    let program = environment::find_program(&word).map_err(|error| exec_error(&text, error))?;
    let mut args: Vec<OsString> = vec!["exec".into()];
    for secret in &manifest.secrets {
        let file = manifest.targets.secret.join(secret.name.as_str());
        if let Some(name) = &secret.env {
            let how = if secret.optional {
                "--env-if-there"
            } else {
                "--env"
            };
            args.extend([how.into(), exec::argument(name, &file)]);
        }
        if let Some(name) = secret.env_file.as_ref().filter(|_| secret.optional) {
            args.extend(["--path-if-there".into(), exec::argument(name, &file)]);
        }
    }
    if args.len() == 1 {
        return Ok((program, words.collect()));
    }
    args.extend(["--".into(), program.into()]);
    args.extend(words);
    Ok((own_program()?, args))
}

/// deploy-inject, wherever we were installed.
pub(super) fn own_program() -> Result<PathBuf, StartError> {
    installed("deploy-inject").map_err(|source| StartError::System {
        what: "deploy-inject".to_owned(),
        source,
    })
}

/// Why a command does not start, with a shell's own distinctions.
pub(super) fn exec_error(command: &str, error: io::Error) -> StartError {
    let command = command.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => StartError::NotFound { command },
        io::ErrorKind::PermissionDenied => StartError::NotExecutable { command },
        _ => StartError::System {
            what: command,
            source: error,
        },
    }
}
