//! Where our other programs are: beside this one, as in a build folder, or in `sbin` beside its
//! `bin`, as `make install` and Debian have it.

use std::io;
use std::path::{Path, PathBuf};

/// The path of a program of ours.
///
/// # Errors
/// It is in neither place; the error names the first.
pub fn installed(name: &str) -> io::Result<PathBuf> {
    find(&std::env::current_exe()?, name)
}

fn find(own: &Path, name: &str) -> io::Result<PathBuf> {
    let beside = own.with_file_name(name);
    let prefix = own.parent().and_then(Path::parent);
    let sbin = prefix.map(|prefix| prefix.join("sbin").join(name));
    let mut places = std::iter::once(beside.clone()).chain(sbin);
    places.find(|path| path.exists()).ok_or_else(|| {
        let words = format!("{} is not there", beside.display());
        io::Error::new(io::ErrorKind::NotFound, words)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_program_is_found_in_a_build_folder_and_where_it_was_installed() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("bin/deploy");
        let (beside, sbin) = (dir.path().join("bin/x"), dir.path().join("sbin/x"));
        for folder in ["bin", "sbin"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let error = find(&own, "x").unwrap_err();
        assert!(error.to_string().contains(beside.to_str().unwrap()));
        std::fs::write(&sbin, "").unwrap();
        assert_eq!(find(&own, "x").unwrap(), sbin);
        std::fs::write(&beside, "").unwrap();
        assert_eq!(find(&own, "x").unwrap(), beside);
    }
}
