//! Where the programs under test are: beside the running test program, in the target folder.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

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
    use std::os::unix::fs::PermissionsExt as _;
    // A child forked by another thread between write and close would hold the copy open for
    // writing, and running it would give ETXTBSY; one copy at a time keeps that window small.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|dead| dead.into_inner());
    let to = to_folder.join(from.file_name().unwrap());
    std::fs::copy(from, &to).unwrap();
    std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).unwrap();
    to
}
