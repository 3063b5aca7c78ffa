//! systemctl(1), which speaks to systemd for us.

use std::io;
use std::process::{Command, Stdio};

/// Why it gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum SystemctlError {
    /// It cannot be run.
    #[error("systemctl: {0}")]
    Run(#[from] io::Error),
    /// Its own words.
    #[error("{0}")]
    Said(String),
}

/// Runs it, and gives what it prints.
///
/// # Errors
/// See [`SystemctlError`].
pub fn systemctl(words: &[&str]) -> Result<String, SystemctlError> {
    let output = Command::new("systemctl")
        .args(words)
        .stdin(Stdio::null())
        .output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(SystemctlError::Said(text(&output.stderr)))
    }
}
