//! Where the programs under test are: beside the running test program, in the target folder.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder that cargo puts programs into, as `target/debug`.
pub fn build_folder() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let folder = exe.parent().unwrap();
    // Test programs lie one deeper than `demo` does.
    if folder.ends_with("deps") {
        folder.parent().unwrap().to_path_buf()
    } else {
        folder.to_path_buf()
    }
}

/// The path of one of our programs.
///
/// # Panics
/// It was not built: `cargo test` builds no program of another package.
pub fn program(name: &str) -> PathBuf {
    let path = build_folder().join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --workspace` first, or `make test`",
        path.display()
    );
    path
}

/// The top of the source tree.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// Copies a program to where every user may run it: the build folder may be below /root.
pub fn copy_for_all(from: &Path, to_folder: &Path) -> PathBuf {
    let to = to_folder.join(from.file_name().unwrap());
    // Not by this process: a child forked by another thread would hold the copy open for writing,
    // and running it would give ETXTBSY. Taking traces away after a signal needs this too, so that
    // it must not wait for `interrupt::creating`; it ends by itself, and names the folder.
    let status = Command::new("install")
        .args(["-m", "755"])
        .arg(from)
        .arg(&to)
        .status();
    assert!(
        status.unwrap().success(),
        "{} is not copied",
        from.display()
    );
    to
}
