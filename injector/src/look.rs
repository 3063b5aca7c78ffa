//! `deploy-inject look`: do all files of a service open? Run by its supervisor before it acts on a
//! change, as the service itself, in its mount namespace and cgroup: a reload without one of its
//! secrets can end a service that runs well on what it has read.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// So many are named; an error is for a person.
const NAMED: usize = 4;

/// Files that do not open.
#[derive(Debug, thiserror::Error)]
#[error("{}", words(.0))]
pub struct Unreadable(Vec<(PathBuf, io::Error)>);

fn words(all: &[(PathBuf, io::Error)]) -> String {
    let named = all.iter().take(NAMED);
    let mut named: Vec<_> = named
        .map(|(path, error)| format!("{}: {error}", path.display()))
        .collect();
    if all.len() > NAMED {
        named.push(format!("and {} more", all.len() - NAMED));
    }
    named.join("; ")
}

/// Opens each of `names` below `secret`, every field of those that have fields, and all that is in
/// `config`, and reads a byte of it; each of `optional` too, if it is there.
///
/// # Errors
/// One or more do not open.
pub fn look(
    secret: &Path,
    config: &Path,
    names: &[OsString],
    optional: &[OsString],
) -> Result<(), Unreadable> {
    let mut unreadable = Vec::new();
    for name in optional {
        let path = secret.join(name);
        if path.symlink_metadata().is_ok() {
            read(&path, &mut unreadable);
        }
    }
    for name in names {
        read(&secret.join(name), &mut unreadable);
    }
    read(config, &mut unreadable);
    if unreadable.is_empty() {
        Ok(())
    } else {
        Err(Unreadable(unreadable))
    }
}

/// A file, or all that is in a folder.
fn read(path: &Path, unreadable: &mut Vec<(PathBuf, io::Error)>) {
    let result = File::open(path).and_then(|mut file| {
        if !file.metadata()?.is_dir() {
            return file.read(&mut [0]).map(drop);
        }
        for entry in std::fs::read_dir(path)? {
            read(&entry?.path(), unreadable);
        }
        Ok(())
    });
    if let Err(error) = result {
        unreadable.push((path.to_owned(), error));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_file_is_opened_and_what_does_not_open_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (secret, config) = (dir.path().join("secret"), dir.path().join("config"));
        for folder in [&secret, &config, &secret.join("tls")] {
            std::fs::create_dir(folder).unwrap();
        }
        for file in ["secret/empty", "secret/tls/key", "config/level"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        let look = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(OsString::from).collect();
            look(
                &secret,
                &config,
                &names,
                &["empty".into(), "not-there".into()],
            )
        };
        look(&["empty", "tls"]).unwrap();
        // A link to nowhere cannot be opened, not even by root.
        std::os::unix::fs::symlink("nowhere", secret.join("tls/cert")).unwrap();
        let error = look(&["empty", "tls", "absent"]).unwrap_err().to_string();
        assert!(
            error.contains("tls/cert") && error.contains("absent"),
            "{error}"
        );
        assert!(!error.contains("empty"), "{error}");
        // What is optional and there has to open too.
        let optional = super::look(&secret, &config, &[], &["tls".into()]);
        assert!(optional.unwrap_err().to_string().contains("tls/cert"));
        let many = ["1", "2", "3", "4", "5", "6"];
        let error = look(&many).unwrap_err().to_string();
        assert!(error.ends_with("and 2 more"), "{error}");
    }
}
