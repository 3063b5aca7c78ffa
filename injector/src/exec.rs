//! `deploy-inject exec`: the last step before a service whose manifest asks for secrets in variables
//! (`env:`). It runs as the service itself, in its namespace and cgroup, reads the files as any
//! program of the service could, and becomes the service's command. The injector and the supervisor
//! never see a value.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

/// Why the command was not started. Never holds a value.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The secret's file cannot be read.
    #[error("cannot read {} for the variable {name}: {source}", path.display())]
    Read {
        /// The variable.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A variable ends at the first NUL: part of a value is worse than none.
    #[error("{} holds a NUL byte, which no variable can; read it as a file instead of {name}", path.display())]
    Nul {
        /// The variable.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// Not `NAME=FILE`.
    #[error("expected NAME=FILE")]
    Form,
    /// exec(2) failed.
    #[error("cannot start {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Variables to be set, each `NAME=FILE`.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// To what the file holds.
    pub values: Vec<OsString>,
    /// The same; without the file there is no such variable.
    pub values_if_there: Vec<OsString>,
    /// To the file's path; without the file there is no such variable.
    pub paths_if_there: Vec<OsString>,
}

/// Sets the variables and becomes `program`. Comes back only with an error.
pub fn exec(variables: &Variables, program: &Path, args: &[OsString]) -> ExecError {
    let mut command = std::process::Command::new(program);
    command.args(args);
    if let Err(error) = set(variables, &mut command) {
        return error;
    }
    let source = command.exec();
    ExecError::Start {
        program: program.to_owned(),
        source,
    }
}

fn set(variables: &Variables, command: &mut std::process::Command) -> Result<(), ExecError> {
    for variable in &variables.values {
        let (name, value) = read(variable)?;
        command.env(name, value);
    }
    for variable in &variables.values_if_there {
        match read(variable) {
            Ok((name, value)) => command.env(name, value),
            Err(ExecError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                continue;
            }
            Err(error) => return Err(error),
        };
    }
    for variable in &variables.paths_if_there {
        let (name, path) = split(variable)?;
        if path.exists() {
            command.env(name, path);
        }
    }
    Ok(())
}

fn split(variable: &OsStr) -> Result<(String, PathBuf), ExecError> {
    let text = variable.to_str().ok_or(ExecError::Form)?;
    let (name, path) = text.split_once('=').ok_or(ExecError::Form)?;
    Ok((name.to_owned(), PathBuf::from(path)))
}

fn read(variable: &OsStr) -> Result<(String, OsString), ExecError> {
    let (name, path) = split(variable)?;
    match std::fs::read(&path) {
        Ok(value) if value.contains(&0) => Err(ExecError::Nul { name, path }),
        Ok(value) => Ok((name, OsString::from_vec(value))),
        Err(source) => Err(ExecError::Read { name, path, source }),
    }
}

/// The argument that makes [`exec`] fill `name` from `file`.
pub(crate) fn argument(name: &str, file: &Path) -> OsString {
    let mut argument = OsString::from(name);
    argument.push("=");
    argument.push(OsStr::from_bytes(file.as_os_str().as_bytes()));
    argument
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_value_arrives_byte_for_byte_and_a_nul_is_refused_without_showing_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, b"line\nwith=\xff").unwrap();
        let argument = argument("KEY", &file);
        let (name, value) = read(&argument).unwrap();
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("KEY", &b"line\nwith=\xff"[..])
        );

        std::fs::write(&file, b"hush\0").unwrap();
        let error = read(&argument).unwrap_err();
        assert!(matches!(error, ExecError::Nul { .. }));
        assert!(!error.to_string().contains("hush"));
    }
}
