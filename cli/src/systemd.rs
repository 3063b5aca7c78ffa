//! The units of the package, where systemd runs.

use std::path::Path;
use std::process::{Command, Stdio};

const UNIT: &str = "/usr/lib/systemd/system/secretsd.service";

fn has_units() -> bool {
    Path::new("/run/systemd/system").is_dir() && Path::new(UNIT).exists()
}

/// The command that starts secretsd on this host; an operator with another user or folder than the
/// units have knows which.
pub fn start_command() -> &'static str {
    match has_units() {
        true => "systemctl start secretsd",
        false => "deploy-inject up",
    }
}

/// Has systemd start secretsd, if the package's units are there. Whether it runs now.
pub fn start() -> bool {
    let start = || {
        Command::new("systemctl")
            .args(["--quiet", "start", "secretsd.service"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
    };
    has_units() && start().is_ok_and(|status| status.success())
}
