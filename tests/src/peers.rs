//! Debian's own programs, unpacked into the build folder and unchanged.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::interrupt;
use crate::programs::{build_folder, workspace};

/// The folder that `packaging/peers.sh` unpacks into, filled.
pub fn unpacked() -> PathBuf {
    unpacked_as("peers", "few")
}

/// The same with all that docs/services.md has a recipe for.
pub fn services_unpacked() -> PathBuf {
    unpacked_as("peers-services", "services")
}

fn unpacked_as(name: &str, which: &str) -> PathBuf {
    // Beside `debug`, as the script's caller in the Makefile has it.
    let folder = build_folder().parent().unwrap().join(name);
    let status = Command::new(workspace().join("packaging/peers.sh"))
        .arg(&folder)
        .arg(which)
        .status()
        .unwrap();
    assert!(status.success(), "packaging/peers.sh failed: {status}");
    folder
}

/// Debian puts libraries below a folder named for the architecture.
pub(crate) fn library_path(root: &Path) -> String {
    let mut folders = Vec::new();
    for parent in ["usr/lib", "lib"] {
        for entry in std::fs::read_dir(root.join(parent))
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_name().to_string_lossy().contains("-linux-gnu") {
                folders.push(entry.path().display().to_string());
            }
        }
    }
    folders.join(":")
}

/// Copies the programs and libraries; links as links.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    let _creating = interrupt::creating();
    let status = Command::new("cp")
        .arg("-a")
        .arg("--")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success(), "cp -a failed: {status}");
}
