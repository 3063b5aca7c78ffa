//! `--detach`: a supervisor that outlives its caller. The caller starts `deploy-inject supervise`,
//! shows what that says until the service has started, and leaves.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use model::Manifest;
use serde::{Deserialize, Serialize};

use super::command::own_program;
use super::{Output, RunOptions, say, supervise};

/// Ends what the new supervisor says to its caller: the service has started. No message holds it.
const STARTED: u8 = 0;

/// [`RunOptions`] on their way through a pipe.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    run_dir: PathBuf,
    manifest: Manifest,
    manifest_path: PathBuf,
    command: Option<Vec<OsString>>,
    log: Option<PathBuf>,
}

/// Starts a supervisor, and waits until its service has started or failed to.
pub(super) fn detach(options: &RunOptions) -> i32 {
    match try_detach(options) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("cannot start a supervisor: {error}"));
            1
        }
    }
}

fn try_detach(options: &RunOptions) -> io::Result<i32> {
    let letter = Letter {
        run_dir: std::path::absolute(&options.run_dir)?,
        manifest: options.manifest.clone(),
        manifest_path: std::path::absolute(&options.manifest_path)?,
        command: options.command.clone(),
        log: options.log.as_ref().map(std::path::absolute).transpose()?,
    };
    let program = own_program().map_err(io::Error::other)?;
    let mut child = Command::new(program)
        .arg("supervise")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&serde_json::to_vec(&letter)?)?;
    }
    if let Some(stderr) = child.stderr.take()
        && relay(stderr, io::stderr())?
    {
        return Ok(0);
    }
    Ok(child.wait()?.code().unwrap_or(1))
}

/// Passes everything on up to the mark; true if the mark came.
fn relay(mut from: impl Read, mut to: impl Write) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        let text = match from.read(&mut buffer)? {
            0 => return Ok(false),
            length => &buffer[..length],
        };
        let mark = text.iter().position(|byte| *byte == STARTED);
        let _ = to.write_all(&text[..mark.unwrap_or(text.len())]);
        if mark.is_some() {
            return Ok(true);
        }
    }
}

/// The other side: reads the letter, leaves the caller's session, and supervises.
pub(super) fn run_detached() -> i32 {
    match prepare() {
        Ok((options, output)) => {
            let log = output.stderr.as_ref().map(OwnedFd::try_clone);
            supervise(&options, output, || {
                let _ = io::stderr().write_all(&[STARTED]);
                // The caller leaves; what is said from now on is for the log.
                if let Some(Ok(log)) = log {
                    let _ = rustix::stdio::dup2_stderr(log);
                }
            })
        }
        Err(error) => {
            say(&format!("cannot supervise: {error}"));
            1
        }
    }
}

fn prepare() -> io::Result<(RunOptions, Output)> {
    let letter: Letter = serde_json::from_reader(io::stdin().lock())?;
    // No terminal of the caller's may end the service; and no folder is kept busy.
    rustix::process::setsid()?;
    std::env::set_current_dir("/")?;
    let log: OwnedFd = match &letter.log {
        Some(path) => File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?
            .into(),
        None => File::options().write(true).open("/dev/null")?.into(),
    };
    let output = Output {
        stdin: Some(File::open("/dev/null")?.into()),
        stdout: Some(log.try_clone()?),
        stderr: Some(log),
    };
    let options = RunOptions {
        run_dir: letter.run_dir,
        manifest: letter.manifest,
        manifest_path: letter.manifest_path,
        command: letter.command,
        detach: false,
        log: letter.log,
    };
    Ok((options, output))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_said_before_the_start_is_passed_on_and_the_mark_is_not() {
        let mut said = Vec::new();
        assert!(relay(&b"careful\n\0later"[..], &mut said).unwrap());
        assert_eq!(said, b"careful\n");
        let mut said = Vec::new();
        assert!(!relay(&b"missing grant\n"[..], &mut said).unwrap());
        assert_eq!(said, b"missing grant\n");
    }
}
